"""What a collective costs before it is run: seconds, requests, bytes and dollars of one all_reduce, in closed form.

The same as :mod:`~lambdaml_core.comm.simulator` counts, for as many workers as one likes, and how many of them should
fold. Formulas are those of LambdaML (Jiang et al., SIGMOD 2021, section 5.3) for any number of aggregators, chunks
and connections. What is left out: computing, folding, polls that find nothing, and clients that slow each other down.
Of messages that are mostly zeros, which travel as index-value pairs, it is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lambdaml_core.aligned import aligned_size
from lambdaml_core.comm.layout import cut
from lambdaml_core.comm.planner import chunk_length
from lambdaml_core.comm.wire import message_overhead
from lambdaml_core.errors import UsageError
from lambdaml_core.storage.base import StorageCaps

OVERHEAD = message_overhead(bytes(64))
"""Bytes of a message before its payload, where the arrays' names and shapes take at most 64 letters."""

_EVERY = 16  # so many workers at most: every K is a candidate
_GRID = 1.5  # of more, each candidate is about so many times the last
_AS_QUICK = 1.05  # a round that takes at most so many times the quickest one's seconds is as good


@dataclass(frozen=True)
class Predicted:
    """One all_reduce of all ranks together.

    Attributes:
        chunks: into how many pieces the message is cut.
        seconds: until the last rank has the result.
        put, get, delete: requests by class, one per key. Everything that is put is deleted, a result when the next
            collective is done.
        sent, received: bytes of values, headers included.
        usd: price of these in US dollars.
    """

    chunks: int
    seconds: float
    put: int
    get: int
    delete: int
    sent: int
    received: int
    usd: float


def predict(
    caps: StorageCaps,
    *,
    size: int,
    aggregators: int,
    nbytes: int,
    overhead: int = OVERHEAD,
    worker_bytes_per_s: float | None = None,
    chunk_bytes: int | None = None,
) -> Predicted:
    """What one all_reduce costs on a channel.

    Requests of s bytes take turns on c = ``caps.parallel`` connections: n of them take ceil(n/c) (L + s/B). With w
    workers, K aggregators and C chunks for each of these, the last rank has the result after (K - 1) C such requests
    for its own puts (the one of another rank where K = 1), (w - 1) C gets, C puts of results, and (K - 1) C gets of
    the others' (one more where some rank folds nothing, which is last). With one chunk that is the published
    (w + 2) of a leader and (3w - 2) of ScatterReduce.

    Args:
        caps: of the channel; a latency or bandwidth of 0 takes no time.
        size, aggregators: w and K.
        nbytes: payload of the message.
        overhead: bytes of one value before its payload.
        worker_bytes_per_s: what a worker's own network moves, all connections together.
        chunk_bytes: largest payload of one value; None = as the engine cuts on a channel with these caps. To be
            given where latency or bandwidth were measured: the engine goes by what is stated.

    Raises:
        UsageError: aggregators are not 1 to size.
    """
    if not 1 <= aggregators <= size:
        raise UsageError(f"aggregators must be 1 to {size}, not {aggregators}")
    total = aligned_size(nbytes)
    chunks = cut(total, aggregators, chunk_length(caps) if chunk_bytes is None else chunk_bytes)
    if size == 1:
        return Predicted(chunks.number, 0.0, 0, 0, 0, 0, 0, 0.0)
    message = min(nbytes, chunks.largest) + overhead

    def phase(requests: int) -> float:
        together, rest = caps.parallel, requests % caps.parallel
        turns = requests // together * _turn_s(caps, together, message, worker_bytes_per_s)
        return turns + (_turn_s(caps, rest, message, worker_bytes_per_s) if rest else 0.0)

    each, own = chunks.number // aggregators, chunks.number - chunks.number // aggregators
    folded = phase(max(1, own)) + phase((size - 1) * each)  # a leader waits for the first of another rank
    last = own
    if aggregators < size:  # whose other ranks put and get the most: what comes in their last turn is waited for
        late = -(-_last_turn(chunks.number, caps.parallel) // aggregators)
        folded = max(folded, phase(chunks.number) + phase((size - aggregators) * late))
        last = max(own, aggregators * _last_turn(each, caps.parallel))
    seconds = folded + phase(each) + phase(last)
    inputs = chunks.number * (size - 1)
    put, get = inputs + chunks.number, 2 * inputs
    moved = nbytes + chunks.number * overhead
    counts = {"put": put, "get": get, "delete": put, "sent": size * moved, "received": 2 * (size - 1) * moved}
    usd = sum(price * counts.get(kind, 0) for kind, price in caps.usd.items())
    return Predicted(chunks.number, seconds, usd=usd, **counts)


def _last_turn(requests: int, together: int) -> int:
    """How many requests are left for the last turn."""
    return (requests - 1) % together + 1


def _turn_s(caps: StorageCaps, together: int, size: int, worker_bytes_per_s: float | None) -> float:
    """Seconds of so many requests at once, of so many bytes each."""
    bounds = [caps.bytes_per_s] if caps.bytes_per_s else []
    if worker_bytes_per_s is not None:
        bounds.append(worker_bytes_per_s / together)
    return caps.latency_s + (size / min(bounds) if bounds else 0.0)


@dataclass(frozen=True)
class Candidate:
    """One number of aggregators.

    Attributes:
        aggregators: K.
        predicted: what an all_reduce costs with it.
        usd: of the round: its requests and, where a price is given, its workers for as long as it takes.
    """

    aggregators: int
    predicted: Predicted
    usd: float


@dataclass(frozen=True)
class Choice:
    """How many ranks should fold.

    Attributes:
        aggregators: K.
        candidates: what was looked at, by K.
        reason: one sentence.
    """

    aggregators: int
    candidates: Sequence[Candidate]
    reason: str


def choose(
    caps: StorageCaps,
    *,
    size: int,
    nbytes: int,
    by: Literal["seconds", "usd"] = "seconds",
    usd_per_worker_s: float = 0.0,
    overhead: int = OVERHEAD,
    worker_bytes_per_s: float | None = None,
    chunk_bytes: int | None = None,
) -> Choice:
    """The best number of aggregators for messages of ``nbytes``.

    By seconds, it is the quickest; but of those that take at most 5 % longer, which nobody would notice, the one with
    fewest dollars, then with fewest requests. By dollars, it is the cheapest, then the quickest.

    Args:
        by: what counts.
        usd_per_worker_s: price of a worker, which every second of a round costs ``size`` times.
        caps, size, nbytes, overhead, worker_bytes_per_s, chunk_bytes: see :func:`predict`.
    """

    def candidate(k: int) -> Candidate:
        predicted = predict(
            caps,
            size=size,
            aggregators=k,
            nbytes=nbytes,
            overhead=overhead,
            worker_bytes_per_s=worker_bytes_per_s,
            chunk_bytes=chunk_bytes,
        )
        return Candidate(k, predicted, predicted.usd + predicted.seconds * size * usd_per_worker_s)

    candidates = [candidate(k) for k in _numbers(size)]
    quickest = min(candidates, key=lambda c: (c.predicted.seconds, c.usd, c.predicted.put, c.aggregators))
    if by == "usd":
        best = min(candidates, key=lambda c: (c.usd, c.predicted.seconds, c.predicted.put, c.aggregators))
    else:
        as_quick = [c for c in candidates if c.predicted.seconds <= _AS_QUICK * quickest.predicted.seconds]
        best = min(as_quick, key=lambda c: (c.usd, c.predicted.put, c.predicted.seconds, c.aggregators))
    return Choice(best.aggregators, candidates, _reason(best, quickest, by, size))


def _numbers(size: int) -> Sequence[int]:
    """The K to look at: all of few workers; of many a geometric grid, the root of their number, and all of them."""
    if size <= _EVERY:
        return range(1, size + 1)
    steps = math.ceil(math.log(size, _GRID))
    return sorted({1, size, round(math.sqrt(size)), *(min(size, round(_GRID**step)) for step in range(steps))})


def _reason(best: Candidate, quickest: Candidate, by: str, size: int) -> str:
    if size == 1:
        return "one worker exchanges nothing"
    says = f"{_who(best.aggregators, size)}: {_costs(best)} a round"
    if by == "usd":
        return f"{says}, the least dollars" + ("" if best is quickest else f"; the quickest, {_other(quickest, size)}")
    if best is quickest:
        return f"{says}, the quickest"
    better = "for less" if best.usd < quickest.usd else "with fewer requests"
    return f"{says}, about as quick as {_other(quickest, size)}, and {better}"


def _who(aggregators: int, size: int) -> str:
    return "one rank folds" if aggregators == 1 else f"{aggregators} of {size} ranks fold"


def _other(candidate: Candidate, size: int) -> str:
    return f"{candidate.aggregators} of {size} with {_costs(candidate)}"


def _costs(candidate: Candidate) -> str:
    p = candidate.predicted
    dollars = f", ${candidate.usd:.3g}" if candidate.usd else ""
    return f"{p.seconds:.3g} s, {p.put + p.get} requests{dollars}"
