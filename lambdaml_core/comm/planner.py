"""Which collectives a rank makes, one after the other: sequence numbers, layouts, frontiers. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lambdaml_core.comm.base import Arrays, Op, Pattern
from lambdaml_core.comm.collective import Collective, Progress, Settings
from lambdaml_core.comm.contents import Contents, Gathered, InPlace
from lambdaml_core.comm.keys import parse_key
from lambdaml_core.comm.layout import Layout, Workspace, flatten
from lambdaml_core.comm.patterns import aggregate, share
from lambdaml_core.comm.wire import message_overhead
from lambdaml_core.errors import UsageError
from lambdaml_core.storage.base import StorageCaps

CHUNK_BYTES = 2 << 20
"""Measured on tmpfs: smaller chunks cost more requests, larger ones leave the caches."""

WINDOW_BYTES = 16 << 20
_LONGEST_CHUNK = 32 << 20  # bytes: a rank that folds holds several
_HEADER_ROOM = 64 << 10  # of a storage's largest value, for header and schema

_AT_ONCE = -1  # before every frontier


def chunk_length(caps: StorageCaps) -> int:
    """Largest payload in bytes of one value of a collective on this channel.

    What the storage wants where it says so (``piece_bytes``), else ``CHUNK_BYTES``; but a chunk moves for at least 16
    latencies, so that these are a small part of the whole, or for fewer where several connections share the work of
    a few chunks: 16 / ``parallel``, and at least 2. All within what one value may have.
    """
    length = caps.piece_bytes or CHUNK_BYTES
    if caps.piece_bytes is None:
        latencies = max(2.0, 16 / caps.parallel)
        length = max(length, min(_LONGEST_CHUNK, int(latencies * caps.latency_s * caps.bytes_per_s)))
    for most in (caps.max_value_bytes, caps.piece_bytes):
        if most is not None:
            length = min(length, most - min(_HEADER_ROOM, most // 2))
    return length


class Planner:
    """The calls of one rank, without I/O: makes the collectives that :class:`Engine` or a simulator runs.

    Args:
        rank, size: this worker and how many there are.
        aggregators: how many ranks fold a message; 1 is a leader, ``size`` is ScatterReduce.
        pattern: how a chunk is reduced.
        generation: rises at each resume or change of size.
        sequence: number of the next collective; above 0 in a replacement, with what its checkpoint says.
        restored: look for results before doing anything, until one is missing.
        chunk_bytes: largest payload of one value.
        window_bytes: payload on its way at a time; more where ``parallel`` connections need it.
        parallel: requests that may be under way at once.
        checksum, watch_results: see :class:`~lambdaml_core.comm.collective.Settings`.

    Attributes:
        sequence: number of the next collective; belongs into a checkpoint.
        frontier: collectives before it are not needed by any replacement of this rank; None (without checkpoints) =
            those this rank has finished.
        retained: bytes of the results of all collectives so far, as if none were sparse.
    """

    def __init__(
        self,
        *,
        rank: int,
        size: int,
        aggregators: int = 1,
        pattern: Pattern = aggregate,
        generation: int = 0,
        sequence: int = 0,
        restored: bool = False,
        chunk_bytes: int = CHUNK_BYTES,
        window_bytes: int = WINDOW_BYTES,
        parallel: int = 1,
        checksum: bool = False,
        watch_results: bool = True,
    ) -> None:
        if not 0 <= rank < size:
            raise UsageError(f"rank {rank} is not below size {size}")
        if not 1 <= aggregators <= size:
            raise UsageError(f"aggregators must be 1 to {size}, not {aggregators}")
        self.rank, self.size, self.sequence = rank, size, sequence
        self.frontier: int | None = None
        self.retained = 0
        self.progress = Progress([0] * size, restored=restored)
        self._aggregators, self._pattern, self._chunk_bytes = aggregators, pattern, chunk_bytes
        self._workspace = Workspace()
        self._layouts: dict[Any, Layout] = {}
        self._settings = Settings(
            rank=rank,
            size=size,
            generation=generation,
            window=max(aggregators, window_bytes // chunk_bytes, 2 * parallel),
            parallel=parallel,
            checksum=checksum,
            watch_results=watch_results,
        )

    @property
    def passed(self) -> int:
        """The least frontier of all ranks, as far as this one knows: nobody needs results before it."""
        return min(self.progress.frontiers)

    @property
    def folder(self) -> str:
        """What all keys of this generation start with."""
        return f"g{self._settings.generation}/"

    def adopt(self, keys: Iterable[str]) -> None:
        """Take over those of these keys which earlier attempts of this rank should have deleted some day: they own
        them, and do not come back to them. Contributions are done with, results once everybody has passed them."""
        places = [(place, key) for key in keys if (place := parse_key(key)) is not None]
        whose = (self._settings.generation, self.rank)
        old = [(p, key) for p, key in places if (p.generation, p.owner) == whose and p.sequence < self.sequence]
        stored = sorted((place.sequence if place.is_result else _AT_ONCE, key) for place, key in old)
        self.progress.stored.extendleft(reversed(stored))

    def skip(self) -> None:
        """The next collective moves nothing: there is only one rank."""
        self._begin()

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum") -> Collective:
        """The next collective: fold x over ranks, in place."""
        return self._fold("all_reduce", x, op, self._aggregators)

    def barrier(self) -> Collective:
        """The next collective: nothing is folded, but everybody has come."""
        return self._fold("barrier", {}, "sum", 1)

    def all_gather(self, x: Arrays) -> tuple[Collective, Gathered]:
        """The next collective: everybody's x, which the second value has once it has been run."""
        contents = Gathered(Layout(x, "sum", aggregators=1, chunk_bytes=1 << 62), flatten(x), self.rank, self.size)
        return self._next("all_gather", share, range(self.size), contents), contents

    def broadcast(self, x: Arrays, root: int) -> Collective:
        """The next collective: replace x by root's."""
        if not 0 <= root < self.size:
            raise UsageError(f"root {root} is not below size {self.size}")
        layout = self._layout(x, "sum", 1)
        contents = InPlace(layout, flatten(x), self._workspace)
        return self._next("broadcast", share, [root] * len(layout.chunks), contents)

    def _fold(self, operation: str, x: Arrays, op: Op | Mapping[str, Op], aggregators: int) -> Collective:
        flat = flatten(x)
        layout = self._layout(x, op, aggregators)
        owners = [chunk % aggregators for chunk in range(len(layout.chunks))]
        return self._next(operation, self._pattern, owners, InPlace(layout, flat, self._workspace))

    def _next(self, operation: str, pattern: Pattern, owners: Sequence[int], contents: Contents) -> Collective:
        self.retained += contents.result_bytes(self.size) + message_overhead(contents.schema) * len(owners)
        sequence, frontier = self._begin()
        return Collective(
            self._settings,
            self.progress,
            operation=operation,
            sequence=sequence,
            frontier=frontier,
            pattern=pattern,
            owners=owners,
            contents=contents,
        )

    def _begin(self) -> tuple[int, int]:
        """The next sequence number, and the frontier that is announced with it."""
        sequence, frontier = self.sequence, self.frontier
        frontier = sequence if frontier is None else frontier
        self.progress.frontiers[self.rank] = frontier
        self.sequence += 1
        return sequence, frontier

    def _layout(self, x: Arrays, op: Op | Mapping[str, Op], aggregators: int) -> Layout:
        ops = op if isinstance(op, str) else tuple(op.items())
        signature = (ops, aggregators, tuple((name, a.dtype, a.shape) for name, a in x.items()))
        if signature not in self._layouts:
            if len(self._layouts) >= 64:
                self._layouts.clear()
            self._layouts[signature] = Layout(x, op, aggregators=aggregators, chunk_bytes=self._chunk_bytes)
        return self._layouts[signature]
