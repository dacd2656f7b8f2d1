"""The closed form: what the simulator counts, and the published values of LambdaML's formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.comm.cost import OVERHEAD, choose, predict
from lambdaml_core.comm.planner import CHUNK_BYTES, Planner, chunk_length
from lambdaml_core.comm.schedule import Requests
from lambdaml_core.comm.simulator import Program, simulate
from lambdaml_core.errors import UsageError
from lambdaml_core.storage.base import StorageCaps

S3 = StorageCaps(scope="network", latency_s=0.08, bytes_per_s=65e6, usd={"put": 0.005 / 1000, "get": 0.0004 / 1000})
CACHE = StorageCaps(scope="network", latency_s=0.01, bytes_per_s=630e6)


def rounds(nbytes: int, number: int = 1) -> Program:
    def program(planner: Planner) -> Requests:
        x = {"g": np.ones(nbytes // 4, np.float32)}
        for _ in range(number):
            yield from planner.all_reduce(x).run(None)

    return program


channels = st.builds(
    StorageCaps,
    scope=st.just("network"),
    latency_s=st.sampled_from([0.0, 0.001, 0.08]),
    bytes_per_s=st.sampled_from([0.0, 1e4, 1e6]),
    parallel=st.sampled_from([1, 2, 3, 8, 40]),
    piece_bytes=st.sampled_from([None, 200, 5000]),
    max_value_bytes=st.sampled_from([None, 1500]),
    usd=st.fixed_dictionaries({}, optional={k: st.floats(0, 1) for k in ("put", "get", "delete", "sent", "received")}),
)


COUNTS = ("put", "get", "delete", "sent", "received")


@given(channels, st.integers(2, 7), st.data(), st.integers(0, 3000))
def test_requests_bytes_and_dollars_are_those_of_the_simulator(
    caps: StorageCaps, size: int, data: st.DataObject, floats: int
) -> None:
    k = data.draw(st.integers(1, size))
    one = predict(caps, size=size, aggregators=k, nbytes=4 * floats)
    counts = simulate(rounds(4 * floats, 3), caps, size=size, aggregators=k).counts
    assert (counts.put, counts.get) == (3 * one.put, 3 * one.get)
    assert (counts.sent, counts.received) == (3 * one.sent, 3 * one.received)
    kept = one.chunks  # the results of the last
    assert counts.delete == 3 * one.delete - kept
    assert one.usd == pytest.approx(sum(caps.usd.get(kind, 0) * getattr(one, kind) for kind in COUNTS))


@given(st.integers(2, 9), st.data(), st.sampled_from([1, 2, 3, 4, 8, 40]), st.integers(1, 6))
def test_seconds_are_those_of_the_simulator(size: int, data: st.DataObject, parallel: int, each: int) -> None:
    """Exactly with one chunk for each aggregator, and where all are equally busy with one connection; else values
    that come one by one may take two turns more, and what a rank does for several chunks may fall together."""
    k = data.draw(st.integers(1, size))
    caps, nbytes = replace(S3, parallel=parallel), 64 * k * each
    one = predict(caps, size=size, aggregators=k, nbytes=nbytes, chunk_bytes=64)
    took = max(simulate(rounds(nbytes), caps, size=size, aggregators=k, chunk_bytes=64).seconds)
    assert one.chunks == k * each
    if each == 1 or (parallel == 1 and k in (1, size)):
        assert took == pytest.approx(one.seconds)
    else:
        assert 0.9 * one.seconds <= took <= one.seconds + 2.01 * (0.08 + 200 / 65e6)


@pytest.mark.parametrize(
    ("nbytes", "size", "k", "caps", "published"),
    [
        (224, 10, 10, S3, 2.240),
        (224, 50, 50, S3, 11.840),
        (12e6, 10, 10, S3, 2.757),
        (89e6, 10, 10, S3, 6.074),
        (224, 10, 10, CACHE, 0.280),
        (224, 50, 50, CACHE, 1.480),
        (12e6, 10, 10, CACHE, 0.333),
        (89e6, 10, 10, CACHE, 0.676),
        (224, 10, 1, S3, 0.960),
        (224, 50, 1, S3, 4.160),
        (12e6, 10, 1, S3, 3.175),
        (89e6, 10, 1, S3, 17.391),
    ],
)
def test_published_seconds(nbytes: float, size: int, k: int, caps: StorageCaps, published: float) -> None:
    one = predict(caps, size=size, aggregators=k, nbytes=int(nbytes), chunk_bytes=1 << 40)
    assert one.seconds == pytest.approx(published, rel=2e-4, abs=6e-4)  # as they are rounded


def test_connections_take_turns_and_share_the_network_of_their_worker() -> None:
    four = replace(S3, parallel=4)
    turn = 0.08 + (65e6 + OVERHEAD) / 65e6
    one = predict(four, size=10, aggregators=1, nbytes=65_000_000, chunk_bytes=1 << 40)
    assert one.seconds == pytest.approx((1 + 3 + 1 + 1) * turn)
    bound = predict(four, size=10, aggregators=1, nbytes=65_000_000, chunk_bytes=1 << 40, worker_bytes_per_s=65e6)
    assert bound.seconds == pytest.approx(12 * (turn - 0.08) + 6 * 0.08)


def test_dollars_of_a_hundred_workers_on_s3() -> None:
    assert predict(S3, size=100, aggregators=1, nbytes=224).usd == pytest.approx(0.0006, rel=0.05)
    assert predict(S3, size=100, aggregators=100, nbytes=224).usd == pytest.approx(0.058, rel=0.01)


def test_one_worker_exchanges_nothing() -> None:
    one = predict(S3, size=1, aggregators=1, nbytes=1000)
    assert (one.seconds, one.put, one.get, one.delete, one.sent, one.received, one.usd) == (0, 0, 0, 0, 0, 0, 0)


def test_ten_thousand_workers_are_no_work() -> None:
    choice = choose(S3, size=10_000, nbytes=89_000_000)
    assert {1, 100, 10_000} < {c.aggregators for c in choice.candidates}
    assert len(choice.candidates) < 40
    assert 1 < choice.aggregators < 10_000


@given(channels, st.integers(1, 300), st.integers(0, 10**9), st.floats(0, 1e-4))
def test_the_choice_is_the_quickest_or_the_cheapest_of_its_table(
    caps: StorageCaps, size: int, nbytes: int, worker: float
) -> None:
    quick = choose(caps, size=size, nbytes=nbytes, usd_per_worker_s=worker)
    table = {c.aggregators: c for c in quick.candidates}
    least = min(c.predicted.seconds for c in table.values())
    best = table[quick.aggregators]
    assert best.predicted.seconds <= 1.05 * least
    assert all(c.usd >= best.usd for c in table.values() if c.predicted.seconds <= 1.05 * least)
    assert str(quick.aggregators) in quick.reason or quick.aggregators == 1
    cheap = choose(caps, size=size, nbytes=nbytes, by="usd", usd_per_worker_s=worker)
    assert table[cheap.aggregators].usd == min(c.usd for c in table.values())
    for c in table.values():
        assert c.usd == pytest.approx(c.predicted.usd + size * worker * c.predicted.seconds)


def test_about_the_root_of_the_workers_fold_on_s3() -> None:
    assert 3 <= choose(S3, size=100, nbytes=12_000_000).aggregators <= 34
    assert choose(S3, size=100, nbytes=224).aggregators == 1
    assert "the quickest" in choose(S3, size=100, nbytes=224).reason


def test_what_is_about_as_quick_is_said_to_be_for_less_only_where_requests_cost_something() -> None:
    many = replace(S3, parallel=4)
    assert "4 of 4 with" in choose(many, size=4, nbytes=224).reason
    assert choose(many, size=4, nbytes=224).reason.endswith("for less")
    assert choose(replace(many, usd={}), size=4, nbytes=224).reason.endswith("with fewer requests")


def test_a_number_of_aggregators_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="1 to 3, not 4"):
        predict(S3, size=3, aggregators=4, nbytes=8)


# --- how long chunks are


@pytest.mark.parametrize(
    ("caps", "length"),
    [
        (StorageCaps(scope="host"), CHUNK_BYTES),
        (StorageCaps(scope="host", latency_s=20e-6, bytes_per_s=5e9), CHUNK_BYTES),
        (S3, 32 << 20),
        (replace(S3, latency_s=0.01), 10_400_000),
        (replace(S3, parallel=4), 20_800_000),
        (replace(S3, parallel=64), 10_400_000),
        (replace(S3, piece_bytes=1 << 20), (1 << 20) - (64 << 10)),
        (replace(S3, max_value_bytes=400 << 10), 336 << 10),
        (replace(S3, max_value_bytes=1000), 500),
    ],
)
def test_chunks_move_for_some_latencies_and_fit_in_a_value(caps: StorageCaps, length: int) -> None:
    assert chunk_length(caps) == length
