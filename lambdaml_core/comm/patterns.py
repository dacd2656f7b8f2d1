"""The built-in patterns. Every rank runs one for every chunk; what is said here is all there is to a collective."""

from __future__ import annotations

from collections.abc import Generator

from lambdaml_core.comm.base import Call, Effect, Fold, Get, Put


def aggregate(call: Call) -> Generator[Effect, None, None]:
    """All-reduce: the owner of a chunk folds everybody's contributions in rank order, and everybody gets the result.

    With one owner for all chunks it is AllReduce by a leader, with as many owners as ranks ScatterReduce (LambdaML,
    Jiang et al., SIGMOD 2021, section 3.2.3), with K between them the road in between.
    """
    if call.rank != call.owner:
        yield Put(call.key("in", call.rank))
    else:
        yield Fold([None if rank == call.rank else call.key("in", rank) for rank in range(call.size)])
        yield Put(call.result)
    yield Get(call.result)


def share(call: Call) -> Generator[Effect, None, None]:
    """Broadcast: everybody gets the owner's value. An all-gather is one such chunk per rank."""
    if call.rank == call.owner:
        yield Put(call.result)
    yield Get(call.result)
