"""The engine: the communicator that runs collectives over a storage."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lambdaml_core.comm.base import Arrays, Fill, Op, Pattern
from lambdaml_core.comm.collective import Collective, Progress, Settings
from lambdaml_core.comm.contents import Contents, Gathered, InPlace
from lambdaml_core.comm.layout import Layout, Workspace, flatten
from lambdaml_core.comm.patterns import aggregate, share
from lambdaml_core.comm.schedule import Delete, GetMany, PutMany, Request, StillIntact, advance
from lambdaml_core.errors import DeadlineExpired, NotSupported, UsageError
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage

CHUNK_BYTES = 2 << 20
WINDOW_BYTES = 16 << 20
DEADLINE_S = 60.0
_HEADER_ROOM = 64 << 10  # of a storage's largest value, for header and schema
_SLICE_S = 0.25  # how often a waiter is asked whether it should go on
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.1


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

    def all_reduce(self, operation: str, x: Arrays, op: Op | Mapping[str, Op]) -> Collective:
        """The next collective: fold x over ranks, in place."""
        flat = flatten(x)
        layout = self._layout(x, op, self._aggregators)
        owners = [chunk % layout.aggregators for chunk in range(len(layout.chunks))]
        return self._next(operation, self._pattern, owners, InPlace(layout, flat, self._workspace))

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
        signature = (ops, aggregators, tuple((name, a.dtype.num, a.shape) for name, a in x.items()))
        if signature not in self._layouts:
            if len(self._layouts) >= 64:
                self._layouts.clear()
            self._layouts[signature] = Layout(x, op, aggregators=aggregators, chunk_bytes=self._chunk_bytes)
        return self._layouts[signature]


class Engine:
    """Implements :class:`~lambdaml_core.comm.base.Communicator` over a channel.

    Args:
        channel: prefixed by the run. It must create once.
        deadline_s: least seconds before a wait gives up; a wait lasts at least ten times the median collective.
        go_on: called with the missing ranks when a deadline expires; True = they are alive, wait once more.
        interrupt: called at least every quarter second while waiting; may raise to leave.
        settings: further arguments of :class:`Planner`.

    Attributes:
        waited_s: seconds spent waiting for others.
    """

    def __init__(
        self,
        channel: FullStorage,
        *,
        rank: int,
        size: int,
        deadline_s: float = DEADLINE_S,
        go_on: Callable[[Collection[int]], bool] | None = None,
        interrupt: Callable[[], None] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        **settings: Any,
    ) -> None:
        caps = channel.caps
        if size > 1 and not caps.creates_once:
            raise NotSupported("the channel cannot create a value exactly once", hint="choose another channel")
        if caps.max_value_bytes is not None:
            chunk_bytes = min(chunk_bytes, max(1, caps.max_value_bytes - _HEADER_ROOM))
        self.rank, self.size = rank, size
        self.waited_s = 0.0
        self.planner = Planner(
            rank=rank,
            size=size,
            chunk_bytes=chunk_bytes,
            checksum=caps.checksums,
            watch_results=caps.blocks or settings.get("restored", False),
            evicts=caps.evicts,
            **settings,
        )
        self._channel = channel
        self._deadline_s, self._go_on, self._interrupt = deadline_s, go_on, interrupt
        self._quarters = 0  # of the deadline, that passed without anything
        self._took: deque[float] = deque(maxlen=101)
        self._what = ""

    @property
    def sequence(self) -> int:
        """Number of the next collective."""
        return self.planner.sequence

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        """As :meth:`Communicator.all_reduce`."""
        if self.size == 1:
            if fill is not None:
                fill(_ignore)
            return
        self._run("all_reduce", self.planner.all_reduce("all_reduce", x, op), fill)

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        """As :meth:`Communicator.all_gather`."""
        if self.size == 1:
            return [{name: a.copy() for name, a in x.items()}]
        collective, contents = self.planner.all_gather(x)
        self._run("all_gather", collective, None)
        return contents.results

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        """As :meth:`Communicator.broadcast`."""
        if self.size > 1:
            self._run("broadcast", self.planner.broadcast(x, root), None)

    def barrier(self) -> None:
        """As :meth:`Communicator.barrier`."""
        if self.size > 1:
            self._run("barrier", self.planner.all_reduce("barrier", {}, "sum"), None)

    def _run(self, operation: str, collective: Collective, fill: Fill | None) -> None:
        self._what = f"{operation} number {self.sequence - 1}"
        started = time.monotonic()
        requests = collective.run(fill)
        answer: Any = None
        while (request := advance(requests, answer)) is not None:
            answer = self._do(request)
        self._took.append(time.monotonic() - started)

    def _do(self, request: Request) -> Any:
        channel = self._channel
        if isinstance(request, GetMany):
            return (
                channel.get_many(request.keys) if request.makers is None else self._wait(request.keys, request.makers)
            )
        if isinstance(request, PutMany):
            return channel.put_many(request.items, if_absent=True)
        if isinstance(request, StillIntact):
            return all(channel.intact(key, data) for key, data in request.values)
        if isinstance(request, Delete):
            return channel.delete(request.keys)
        return request.fill(_ignore)

    def _wait(self, keys: Sequence[str], makers: Mapping[str, int]) -> Mapping[str, Buffer]:
        """Values of those keys that exist once the first does; nothing when a quarter of the deadline has passed."""
        started = time.monotonic()
        quarter = max(self._deadline_s, 10 * statistics.median(self._took or (0.0,))) / 4
        pause = _FIRST_PAUSE_S
        found: Mapping[str, Buffer] = {}
        while not found and time.monotonic() - started < quarter:
            found = self._channel.get_many(keys, wait_s=min(_SLICE_S, quarter))
            if found:
                break
            if self._interrupt is not None:
                self._interrupt()
            if not self._channel.caps.blocks:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        self.waited_s += time.monotonic() - started
        self._quarters = 0 if found else self._quarters + 1
        if self._quarters == 4:
            self._expire(sorted(set(makers.values())), 4 * quarter)
        return found

    def _expire(self, missing: Collection[int], waited_s: float) -> None:
        self._quarters = 0
        if self._go_on is None or not self._go_on(missing):
            ranks = ", ".join(map(str, missing))
            raise DeadlineExpired(
                f"{self._what}: nothing from rank {ranks} for {waited_s:.0f} s",
                hint="look at the log of that worker; a longer deadline can be set if it is only slow",
            )


def _ignore(lo: int, hi: int) -> None:
    """``ready`` is a hint; this engine sends when fill has returned."""
