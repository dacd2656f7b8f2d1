"""Waiting on channels that cannot wait: few requests, pauses that grow, and no values left where they are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comm_channels import Plain, all_well, engines
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.comm.cost import predict
from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.polling import Polling
from lambdaml_core.comm.schedule import GetMany, PutMany, advance
from lambdaml_core.errors import DeadlineExpired
from lambdaml_core.storage.base import Buffer, StorageCaps
from lambdaml_core.storage.layers import Complete, Count, FullStorage, Layer, size_of

S3 = StorageCaps(
    scope="network", latency_s=0.08, bytes_per_s=65e6, parallel=4, creates_once=True, usd={"get": 0.0004 / 1000}
)
KEYS = [f"k{i}" for i in range(9)]


def test_after_a_look_in_vain_one_value_at_a_time_is_asked_for_in_turn() -> None:
    polling = Polling(S3)
    assert polling.choose(KEYS) == KEYS[:4]
    polling.note(KEYS[:4], [])
    for key in (*KEYS[4:], *KEYS[:4], KEYS[4]):
        assert polling.choose(KEYS) == [key]
        polling.note([key], [])


def test_what_has_come_together_is_fetched_together() -> None:
    polling = Polling(S3)
    polling.note(KEYS[:4], [])
    polling.note(KEYS[4:5], KEYS[4:5])
    left = [key for key in KEYS if key != "k4"]
    assert len(polling.choose(left)) == 4
    polling.note(polling.choose(left), polling.choose(left))
    assert len(polling.choose(KEYS)) == 8


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_looks_are_never_empty_nor_much_larger_than_what_they_bring(parallel: int, first: int, found: int) -> None:
    polling, keys = Polling(replace(S3, parallel=parallel)), [f"k{i}" for i in range(80)]
    for bring in (first, found):
        asked = polling.choose(keys)
        assert 1 <= len(asked) <= 2 * parallel
        there = asked[:bring]
        polling.note(asked, there)
        keys = [key for key in keys if key not in there]
        if len(there) < len(asked):
            assert len(polling.choose(keys)) <= max(1, 4 * len(there))


def test_pauses_double_from_a_quarter_of_a_latency() -> None:
    polling = Polling(S3)
    assert [polling.pause() for _ in range(5)] == pytest.approx([0.02, 0.04, 0.08, 0.1, 0.1])
    polling.note(KEYS[:1], KEYS[:1])
    assert polling.pause() == pytest.approx(0.02)
    assert Polling(replace(S3, latency_s=0)).pause() == pytest.approx(1e-4)


def test_dear_requests_are_made_less_often() -> None:
    polling = Polling(replace(S3, usd={"get": 5e-6}))
    assert [polling.pause() for _ in range(8)][-1] == pytest.approx(1.0), "0.000005 dollars a second"


# --- the engine on such a channel


class Late(Layer):
    """A channel that does not wait, with a clock: values of others appear at their moments, requests take turns."""

    def __init__(self, values: Mapping[str, tuple[float, Sequence[Buffer]]], monkeypatch: pytest.MonkeyPatch) -> None:
        plain = Plain()
        plain.caps = S3
        self.count = Count(Complete(plain))
        super().__init__(self.count)
        self.now, self.asked, self._values = 0.0, list[Sequence[str]](), dict(values)
        for module in ("engine", "polling"):  # not for all of this process: threads of other tests may sleep
            monkeypatch.setattr(f"lambdaml_core.comm.{module}.time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds <= 0.25, "whoever waits looks up at least so often"
        self.now += seconds

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        self.asked.append(keys)
        for key, (at, value) in self._values.items():
            if at <= self.now:
                self.inner.put(key, value, if_absent=True)
        self.now += 0.08 * -(-len(keys) // S3.parallel)
        return self.inner.get_many(keys)


def contributions(size: int) -> dict[str, Sequence[Buffer]]:
    """What ranks 1.. put for the leader, of one array each."""
    put: dict[str, Sequence[Buffer]] = {}
    for rank in range(1, size):
        requests = Planner(rank=rank, size=size, checksum=True).all_reduce({"g": np.full(4, float(rank))}).run(None)
        request = advance(requests, None)
        assert isinstance(request, PutMany)
        put |= {key: [b"".join(parts)] for key, parts in request.items.items()}
    return put


@pytest.mark.parametrize("late_s", [0.0, 0.3, 5.0])
def test_a_leader_waits_with_few_requests(late_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 10
    channel = Late({key: (late_s, value) for key, value in contributions(size).items()}, monkeypatch)
    x = {"g": np.zeros(4)}
    Engine(channel, rank=0, size=size, deadline_s=60).all_reduce(x)
    assert x["g"].tolist() == [45.0] * 4
    counts = channel.count.counts
    assert counts.get - counts.missed == size - 1
    looks = [len(keys) for keys in channel.asked]
    polls = 0 if late_s == 0 else 4 + late_s / 0.1
    assert counts.missed <= polls
    assert channel.now <= late_s + 0.18 + 0.08 * 4, looks


def test_a_straggler_is_all_that_is_asked_for_once_the_others_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 10
    keys = contributions(size)
    last = next(iter(keys))
    channel = Late({key: (8.0 if key == last else 0.0, value) for key, value in keys.items()}, monkeypatch)
    Engine(channel, rank=0, size=size, deadline_s=60).all_reduce({"g": np.zeros(4)})
    assert channel.count.counts.missed <= 8.0 / 0.18 + 4
    assert channel.asked[-1] == [last]
    assert channel.now <= 8.0 + 0.1 + 2 * 0.08, "the others have been folded, or fetched, before"


def test_a_deadline_expires_and_long_pauses_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Late({}, monkeypatch)
    looked_up: list[float] = []
    comm = Engine(channel, rank=0, size=2, deadline_s=10, interrupt=lambda: looked_up.append(channel.now))
    with pytest.raises(DeadlineExpired, match="nothing from rank 1"):
        comm.barrier()
    assert 10 <= channel.now < 13
    assert max(b - a for a, b in itertools.pairwise(looked_up)) <= 0.25


def test_requests_without_those_in_vain_are_those_predicted() -> None:
    for size, aggregators in ((3, 1), (4, 2), (4, 4)):
        plain = Plain()
        plain.caps = replace(S3, latency_s=0, scope="process")
        channel: FullStorage = Complete(plain)
        counts = [Count(channel) for _ in range(size)]
        comms = [
            Engine(counts[rank], rank=rank, size=size, aggregators=aggregators, deadline_s=60) for rank in range(size)
        ]

        def work(rank: int, comms: Sequence[Engine] = comms) -> None:
            comms[rank].all_reduce({"g": np.ones(300, np.float32)})

        all_well(size, work)
        one = predict(plain.caps, size=size, aggregators=aggregators, nbytes=1200)
        assert sum(c.counts.put for c in counts) == one.put
        assert sum(c.counts.get - c.counts.missed for c in counts) == one.get
        assert sum(c.counts.sent for c in counts) == one.sent
        assert sum(c.counts.received for c in counts) == one.received


# --- payloads are handed on as they are


class Parted(Plain):
    """Notes what it is given; values are handed out as views."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []

    def put(self, key: str, data: Sequence[Buffer], *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self.given += data
        return super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Any:
        return memoryview(super().get(key))


def test_payloads_leave_as_views_of_the_arrays() -> None:
    plain = Parted()
    comms = engines(Complete(plain), 2)
    xs = [{"g": np.full(5000, rank + 1.0)} for rank in range(2)]
    all_well(2, lambda rank: comms[rank].all_reduce(xs[rank]))
    assert xs[0]["g"].tolist() == [3.0] * 5000
    payloads = [np.frombuffer(part) for part in plain.given if size_of([part]) == 40_000]
    assert [[np.shares_memory(p, x["g"]) for x in xs] for p in payloads] == [[False, True], [True, False]]


def test_no_more_is_fetched_than_a_rank_may_hold_while_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.collective._FETCHED_BYTES", 4 * 8000)
    planner = Planner(rank=0, size=20, parallel=2)
    requests = planner.all_reduce({"g": np.zeros(1000)}).run(None)
    request = advance(requests, None)
    assert isinstance(request, GetMany)
    assert [key for key in request.keys if ".0." in key] == [f"g0/in-0/0.0.{rank}" for rank in range(1, 5)]
