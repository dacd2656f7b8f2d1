"""The engine: the communicator that runs collectives over a storage."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lambdaml_core.comm.base import Arrays, Fill, Op, Pattern
from lambdaml_core.comm.collective import Collective
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.comm.planner import CHUNK_BYTES, Planner
from lambdaml_core.comm.schedule import Delete, GetMany, PutMany, Request, StillIntact, advance
from lambdaml_core.errors import DeadlineExpired, NotSupported
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage

DEADLINE_S = 60.0
_HEADER_ROOM = 64 << 10  # of a storage's largest value, for header and schema
_SLICE_S = 0.25  # how often a waiter is asked whether it should go on
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.1


class Engine:
    """Implements :class:`~lambdaml_core.comm.base.Communicator` over a channel.

    Args:
        channel: prefixed by the run. It must create once.
        rank, size, aggregators, pattern, generation, sequence, restored, chunk_bytes: see
            :class:`~lambdaml_core.comm.planner.Planner`.
        deadline_s: least seconds before a wait gives up; a wait lasts at least ten times the median collective.
        go_on: called with the missing ranks when a deadline expires; True = they are alive, wait once more.
        interrupt: called at least every quarter second while waiting; may raise to leave.

    Attributes:
        waited_s: seconds spent waiting for others.
    """

    def __init__(
        self,
        channel: FullStorage,
        *,
        rank: int,
        size: int,
        aggregators: int = 1,
        pattern: Pattern = aggregate,
        generation: int = 0,
        sequence: int = 0,
        restored: bool = False,
        chunk_bytes: int = CHUNK_BYTES,
        deadline_s: float = DEADLINE_S,
        go_on: Callable[[Collection[int]], bool] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        caps = channel.caps
        if size > 1 and not caps.creates_once:
            raise NotSupported("the channel cannot create a value exactly once", hint="choose another channel")
        if caps.max_value_bytes is not None:
            room = min(_HEADER_ROOM, caps.max_value_bytes // 2)
            chunk_bytes = min(chunk_bytes, caps.max_value_bytes - room)
        self.rank, self.size = rank, size
        self.waited_s = 0.0
        self.planner = Planner(
            rank=rank,
            size=size,
            aggregators=aggregators,
            pattern=pattern,
            generation=generation,
            sequence=sequence,
            restored=restored,
            chunk_bytes=chunk_bytes,
            checksum=caps.checksums,
            watch_results=caps.blocks or restored,
            evicts=caps.evicts,
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
        self._run("all_reduce", self.planner.all_reduce(x, op), fill)

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
            self._run("barrier", self.planner.barrier(), None)

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
