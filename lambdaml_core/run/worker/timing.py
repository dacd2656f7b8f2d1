"""Where a worker's time goes: start, load, compute, communicate and wait."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lambdaml_core.comm.base import Arrays, Communicator, Fill, Op

_MOST_SLICES = 400  # of a timeline


class _Engine(Communicator, Protocol):
    @property
    def waited_s(self) -> float: ...

    @property
    def sequence(self) -> int: ...


class Clock:
    """Seconds by purpose. Time is ``start`` before :meth:`ready` and ``compute`` after it, unless something says that
    it is another's.

    Args:
        began: when the process was started, by ``time.perf_counter``.

    Attributes:
        began_s: the same in seconds since 1970.
    """

    def __init__(self, began: float) -> None:
        self.seconds = {"load": 0.0, "communicate": 0.0, "wait": 0.0}
        self.began_s = time.time() - (time.perf_counter() - began)
        self._began = began
        self._start: float | None = None
        self._stopped: float | None = None
        self._cuts: list[tuple[float, Mapping[str, float]]] = []
        self._rounds, self._stride = 0, 1

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Time spent here is ``load``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds["load"] += time.perf_counter() - begin

    def ready(self) -> None:
        """The first round is about to begin."""
        self._start = max(0.0, time.perf_counter() - self._began - self.seconds["load"])
        self._cut()

    def round(self) -> None:
        """A round is done. Slices of the timeline end at rounds; where there are too many, pairs become one."""
        self._rounds += 1
        if self._rounds % self._stride == 0:
            self._cut()
            if len(self._cuts) == _MOST_SLICES - 1:
                del self._cuts[1::2]  # a cut is a total, so leaving one out merges two slices
                self._stride *= 2

    def stop(self) -> None:
        """The work is done: from here on ``report`` and ``timeline`` speak of this moment."""
        self._stopped = self.elapsed_s()

    def report(self) -> dict[str, float]:
        """All seconds up to now; they add up to the age of the process."""
        return self._report(self.elapsed_s())

    def timeline(self) -> dict[str, list[float]]:
        """Seconds by purpose in each slice of the time up to now, at most 400; ``until`` is where a slice ends, in
        seconds since the process was started."""
        until = self.elapsed_s()
        cuts = [*self._cuts, (until, self._report(until))]
        before = [dict.fromkeys(cuts[0][1], 0.0), *(totals for _, totals in cuts)]
        slices = {
            name: [round(totals[name] - last[name], 6) for last, (_, totals) in zip(before, cuts, strict=False)]
            for name in cuts[0][1]
        }
        return {"until": [round(until, 6) for until, _ in cuts], **slices}

    def elapsed_s(self) -> float:
        """The age of the process."""
        return time.perf_counter() - self._began if self._stopped is None else self._stopped

    def _cut(self) -> None:
        until = self.elapsed_s()
        self._cuts.append((until, self._report(until)))

    def _report(self, elapsed: float) -> dict[str, float]:
        rest = max(0.0, elapsed - sum(self.seconds.values()))
        start = rest if self._start is None else self._start
        return {"start": start, **self.seconds, "compute": rest - start}


class TimedCommunicator:
    """A communicator that tells a clock how long it took, without the time that a ``fill`` computes."""

    def __init__(self, inner: _Engine, clock: Clock) -> None:
        self.rank, self.size = inner.rank, inner.size
        self._inner = inner
        self._clock = clock
        self._filling = 0.0

    @property
    def sequence(self) -> int:
        """Number of the next collective."""
        return self._inner.sequence

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
