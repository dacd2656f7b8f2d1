"""Where a worker's time goes, by a clock that only the test moves."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.run.records.ranks import usd
from lambdaml_core.run.worker.timing import Clock, TimedCommunicator
from lambdaml_core.run.worker.totals import Tally


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until the test changes it."""
    value = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: value[0])
    monkeypatch.setattr("time.time", lambda: 1e9 + value[0])
    return value


class Slow:
    """An engine whose time is known."""

    rank, size, waited_s, sequence = 0, 1, 0.0, 0

    def __init__(self, now: list[float]) -> None:
        self._now = now

    def all_reduce(self, x: Any, op: Any = "sum", *, fill: Any = None) -> None:
        self._now[0] += 1
        if fill is not None:
            fill(lambda lo, hi: None)
        self._now[0] += 2
        self.waited_s += 2

    def all_gather(self, x: Any) -> Any:
        self._now[0] += 8
        return [x]

    def broadcast(self, x: Any, root: int = 0) -> None:
        self._now[0] += 16

    def barrier(self) -> None:
        self._now[0] += 32
        self.waited_s += 32


def test_where_the_time_goes(now: list[float]) -> None:
    """A fill is computing, but for the rows it waits for; what the engine waited is waiting."""
    clock = Clock(began=99.0)
    with clock.loading():
        now[0] += 64
    assert clock.report() == {"start": 1.0, "load": 64.0, "communicate": 0.0, "wait": 0.0, "compute": 0.0}
    clock.ready()
    comm = TimedCommunicator(Slow(now), clock)

    def fill(ready: Any) -> None:
        now[0] += 128
        with clock.loading():
            now[0] += 512

    comm.all_reduce({}, fill=fill)
    assert clock.report() == {"start": 1.0, "load": 576.0, "communicate": 1.0, "wait": 2.0, "compute": 128.0}
    comm.all_reduce({})
    comm.all_gather({})
    comm.broadcast({})
    comm.barrier()
    now[0] += 256
    assert clock.report() == {"start": 1.0, "load": 576.0, "communicate": 26.0, "wait": 36.0, "compute": 384.0}


def test_a_timeline(now: list[float]) -> None:
    clock = Clock(began=99.0)
    with clock.loading():
        now[0] += 2
    clock.ready()
    comm = TimedCommunicator(Slow(now), clock)
    comm.all_reduce({})
    now[0] += 4
    clock.round()
    now[0] += 8
    assert clock.began_s == 1e9 + 99
    assert clock.timeline() == {
        "until": [3.0, 10.0, 18.0],
        "start": [1.0, 0.0, 0.0],
        "load": [2.0, 0.0, 0.0],
        "communicate": [0.0, 1.0, 0.0],
        "wait": [0.0, 2.0, 0.0],
        "compute": [0.0, 4.0, 8.0],
    }
    clock.stop()
    stopped = clock.timeline(), clock.report()
    now[0] += 16
    assert (clock.timeline(), clock.report()) == stopped


@given(rounds=st.integers(0, 5000))
def test_a_timeline_has_few_slices_that_add_up(rounds: int) -> None:
    """However many rounds there are; and each slice but the first, of the start, and the last is about as long."""
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.perf_counter", lambda: now[0])
        clock = Clock(began=0.0)
        now[0] = 1.0
        clock.ready()
        for round in range(rounds):
            now[0] += 2.0
            clock.seconds["wait"] += 0.5 if round % 3 else 0.0
            clock.round()
        line, total = clock.timeline(), clock.report()
    assert len(line["until"]) <= 400
    assert len(line["until"]) >= min(rounds, 190)
    assert line["until"] == sorted(line["until"])
    assert line["until"][-1] == now[0]
    for name, seconds in total.items():
        assert len(line[name]) == len(line["until"])
        assert sum(line[name]) == pytest.approx(seconds)
    lengths = [b - a for a, b in zip(line["until"], line["until"][1:], strict=False)]
    assert len(set(lengths[:-1])) <= 1


def test_a_meter_counts_what_earlier_attempts_have_used() -> None:
    """The same as the totals, at any moment: bytes, and dollars at these prices."""
    prices = {"channel": {"put": 5e-6, "sent": 3e-9}, "store": {"get": 4e-7}}
    first, second = (Tally(Clock(time.perf_counter())) for _ in range(2))
    for tally in (first, second):
        if tally is second:
            tally.go_on(first.totals())
        meter = tally.meter(prices)
        for step in range(3):
            totals = tally.totals()
            counts = {"channel": totals["channel"], "store": totals["store"]}
            moved = {place: counts[place]["sent"] + counts[place]["received"] for place in counts}
            used = meter()
            assert (used.channel, used.store) == (moved["channel"], moved["store"])
            assert used.usd == pytest.approx(usd(totals, prices))
            tally.channel.put += 1
            tally.channel.received += 10 * step
            tally.store.sent += 100
    assert usd(second.totals(), prices) == pytest.approx(6 * 5e-6)
