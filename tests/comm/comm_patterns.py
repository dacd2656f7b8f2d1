"""Patterns that are wrong, for the tests of the laws."""

from __future__ import annotations

import itertools
from collections.abc import Generator

from lambdaml_core.comm.base import Call, Effect, Fold, Get, Put
from lambdaml_core.comm.patterns import aggregate

_turns = itertools.count()


def _fold(call: Call) -> Fold:
    return Fold([None if rank == call.rank else call.key("in", rank) for rank in range(call.size)])


def two_owners(call: Call) -> Generator[Effect, None, None]:
    owners = {call.owner, (call.owner + 1) % call.size}
    yield Put(call.key("in", call.rank))
    if call.rank in owners:
        yield _fold(call)
        yield Put(call.result)
    yield Get(call.result)


def nobody_puts_the_result(call: Call) -> Generator[Effect, None, None]:
    if call.rank != call.owner:
        yield Put(call.key("in", call.rank))
    yield Get(call.result)


def everybody_waits_first(call: Call) -> Generator[Effect, None, None]:
    yield Get(call.key("in", (call.rank - 1) % call.size))
    yield Put(call.key("in", call.rank))
    if call.rank == call.owner:
        yield _fold(call)
        yield Put(call.result)
    yield Get(call.result)


def forgets_the_last_rank(call: Call) -> Generator[Effect, None, None]:
    if call.rank != call.owner:
        yield Put(call.key("in", call.rank))
    else:
        yield Fold(_fold(call).sources[: max(call.owner + 1, call.size - 1)])
        yield Put(call.result)
    yield Get(call.result)


def folds_its_own_first(call: Call) -> Generator[Effect, None, None]:
    if call.rank != call.owner:
        yield Put(call.key("in", call.rank))
    else:
        yield Fold([None, *(source for source in _fold(call).sources if source is not None)])
        yield Put(call.result)
    yield Get(call.result)


def names_keys_by_hand(call: Call) -> Generator[Effect, None, None]:
    if call.rank != call.owner:
        yield Put(f"in/{call.chunk}/{call.rank}")
    else:
        yield Fold([None if rank == call.rank else f"in/{call.chunk}/{rank}" for rank in range(call.size)])
        yield Put(call.result)
    yield Get(call.result)


def leaves_copies(call: Call) -> Generator[Effect, None, None]:
    """Every rank passes the result on to the next, so that not all read one value; nobody deletes what is passed on."""
    yield from aggregate(call)
    yield Put(call.key("copy", call.rank))


def keeps_the_result_to_itself(call: Call) -> Generator[Effect, None, None]:
    if call.rank != call.owner:
        yield Put(call.key("in", call.rank))
    else:
        yield _fold(call)
        yield Put(call.result)


def does_more_each_time(call: Call) -> Generator[Effect, None, None]:
    for number in range(next(_turns) // 7):
        yield Put(call.key("more", call.rank, number))
    yield from aggregate(call)
