"""Where a worker's time goes: load, compute, communicate and wait."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lambdaml_core.comm.base import Arrays, Communicator, Fill, Op


class _Engine(Communicator, Protocol):
    @property
    def waited_s(self) -> float: ...


class Clock:
    """Seconds by purpose. Time belongs to ``compute`` unless something says that it does not."""

    def __init__(self) -> None:
        self.seconds = {"load": 0.0, "communicate": 0.0, "wait": 0.0}
        self._ready: float | None = None

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Time spent here is ``load``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds["load"] += time.perf_counter() - begin

    def ready(self, started_s: float) -> None:
        """The worker is about to begin; ``started_s`` ago its process began."""
        self._ready = time.perf_counter()
        self.seconds["start"] = max(0.0, started_s - self.seconds["load"])

    def report(self) -> dict[str, float]:
        """All seconds up to now; ``compute`` is what is left of the time since :meth:`ready`."""
        since = 0.0 if self._ready is None else time.perf_counter() - self._ready
        compute = since - self.seconds["communicate"] - self.seconds["wait"]
        return {"start": 0.0, **self.seconds, "compute": max(0.0, compute)}


class TimedCommunicator:
    """A communicator that tells a clock how long it took, without the time that a ``fill`` computes."""

    def __init__(self, inner: _Engine, clock: Clock) -> None:
        self.rank, self.size = inner.rank, inner.size
        self._inner = inner
        self._clock = clock
        self._filling = 0.0

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        with self._timed():
            self._inner.all_reduce(x, op, fill=fill and self._timed_fill(fill))

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        with self._timed():
            return self._inner.all_gather(x)

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        with self._timed():
            self._inner.broadcast(x, root)

    def barrier(self) -> None:
        with self._timed():
            self._inner.barrier()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        begin, waited = time.perf_counter(), self._inner.waited_s
        self._filling = 0.0
        try:
            yield
        finally:
            waited = self._inner.waited_s - waited
            self._clock.seconds["wait"] += waited
            self._clock.seconds["communicate"] += time.perf_counter() - begin - waited - self._filling

    def _timed_fill(self, fill: Fill) -> Fill:
        def timed(ready: Callable[[int, int], None]) -> None:
            begin = time.perf_counter()
            fill(ready)
            self._filling += time.perf_counter() - begin

        return timed


def process_age_s() -> float | None:
    """Seconds since this process was started, to some 10 ms; None where the system does not tell."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return None
