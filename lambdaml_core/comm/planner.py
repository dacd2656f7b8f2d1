"""Which collectives a rank makes, one after the other: sequence numbers, layouts, frontiers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambdaml_core.comm.base import Arrays, Op, Pattern
from lambdaml_core.comm.collective import Collective, Progress, Settings
from lambdaml_core.comm.contents import Contents, Gathered, InPlace
from lambdaml_core.comm.layout import Layout, Workspace, flatten
from lambdaml_core.comm.patterns import aggregate, share
from lambdaml_core.errors import UsageError

CHUNK_BYTES = 2 << 20
"""Measured on tmpfs: smaller chunks cost more requests, larger ones leave the caches."""

WINDOW_BYTES = 16 << 20


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
        window_bytes: most payload on its way at a time.
        checksum, watch_results, evicts: see :class:`~lambdaml_core.comm.collective.Settings`.

    Attributes:
        sequence: number of the next collective; belongs into a checkpoint.
        frontier: collectives before it are not needed by any replacement of this rank; None (without checkpoints) =
            those this rank has finished.
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
        checksum: bool = False,
        watch_results: bool = True,
        evicts: bool = False,
    ) -> None:
        if not 0 <= rank < size:
            raise UsageError(f"rank {rank} is not below size {size}")
        if not 1 <= aggregators <= size:
            raise UsageError(f"aggregators must be 1 to {size}, not {aggregators}")
        self.rank, self.size, self.sequence = rank, size, sequence
        self.frontier: int | None = None
        self.progress = Progress([0] * size, restored=restored)
        self._aggregators, self._pattern, self._chunk_bytes = aggregators, pattern, chunk_bytes
        self._workspace = Workspace()
        self._layouts: dict[Any, Layout] = {}
        self._settings = Settings(
            rank=rank,
            size=size,
            generation=generation,
            window=max(aggregators, window_bytes // chunk_bytes),
            checksum=checksum,
            watch_results=watch_results,
            evicts=evicts,
        )

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
        frontier = self.sequence if self.frontier is None else self.frontier
        self.progress.frontiers[self.rank] = frontier
        collective = Collective(
            self._settings,
            self.progress,
            operation=operation,
            sequence=self.sequence,
            frontier=frontier,
            pattern=pattern,
            owners=owners,
            contents=contents,
        )
        self.sequence += 1
        return collective

    def _layout(self, x: Arrays, op: Op | Mapping[str, Op], aggregators: int) -> Layout:
        ops = op if isinstance(op, str) else tuple(op.items())
        signature = (ops, aggregators, tuple((name, a.dtype, a.shape) for name, a in x.items()))
        if signature not in self._layouts:
            if len(self._layouts) >= 64:
                self._layouts.clear()
            self._layouts[signature] = Layout(x, op, aggregators=aggregators, chunk_bytes=self._chunk_bytes)
        return self._layouts[signature]
