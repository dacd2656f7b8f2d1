"""The simulator tells the requests, seconds and dollars of the published formulas, and the requests of the engine."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from broken_patterns import EverybodyWaitsFirst
from comm_channels import all_well, engines, memory

from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import Requests
from lambdaml_core.comm.simulator import Program, Simulated, simulate
from lambdaml_core.errors import DeadlineExpired, MismatchedMessage
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.storage.layers import Count

S3 = StorageCaps(
    scope="network", latency_s=0.08, bytes_per_s=65e6, usd={"put": 0.005 / 1000, "get": 0.0004 / 1000, "delete": 0.0}
)
CACHE = StorageCaps(scope="network", latency_s=0.01, bytes_per_s=630e6)  # a cache.t3.medium
HEADER = 128  # bytes of a message of one array


def all_reduce(nbytes: int, rounds: int = 1) -> Program:
    def program(planner: Planner) -> Requests:
        x = {"g": np.ones(nbytes // 4, np.float32)}
        for _ in range(rounds):
            yield from planner.all_reduce(x).run(None)

    return program


def one_round(nbytes: float, size: int, aggregators: int, caps: StorageCaps) -> Simulated:
    """One chunk for each aggregator; bytes and bandwidth a tenth of what is asked, so that memory suffices."""
    slower = replace(caps, bytes_per_s=caps.bytes_per_s / 10)
    return simulate(all_reduce(int(nbytes / 10)), slower, size=size, aggregators=aggregators, chunk_bytes=1 << 30)


@pytest.mark.parametrize("size", range(2, 7))
def test_requests_are_those_of_the_table(size: int) -> None:
    for aggregators in range(1, size + 1):
        counts = simulate(all_reduce(64 * 60), S3, size=size, aggregators=aggregators).counts
        inputs = aggregators * (size - 1)
        assert (counts.put, counts.get, counts.delete) == (inputs + aggregators, 2 * inputs, inputs)


def test_a_leader_takes_w_plus_2_messages() -> None:
    for size, nbytes in itertools.product([2, 5, 30], [64, 64_000]):
        took = max(simulate(all_reduce(nbytes), S3, size=size).seconds)
        assert took == pytest.approx((size + 2) * ((nbytes + HEADER) / 65e6 + 0.08))


def test_scatter_reduce_takes_3w_minus_2_messages() -> None:
    for size, nbytes in itertools.product([2, 5, 20], [64, 64_000]):
        took = max(simulate(all_reduce(nbytes * size), S3, size=size, aggregators=size).seconds)
        assert took == pytest.approx((3 * size - 2) * ((nbytes + HEADER) / 65e6 + 0.08))


def test_parallel_connections_take_turns() -> None:
    size, nbytes, parallel = 10, 64_000, 4
    took = simulate(all_reduce(nbytes * size), replace(S3, parallel=parallel), size=size, aggregators=size)
    turns = 3 * math.ceil((size - 1) / parallel) + 1  # puts, gets, one put, gets
    assert max(took.seconds) == pytest.approx(turns * (0.08 + (nbytes + HEADER) / 65e6))


@pytest.mark.parametrize(
    ("nbytes", "size", "published"), [(224, 10, 0.960), (224, 50, 4.160), (12e6, 10, 3.175), (89e6, 10, 17.391)]
)
def test_published_rounds_of_a_leader(nbytes: float, size: int, published: float) -> None:
    took = max(one_round(nbytes, size, 1, S3).seconds)
    assert took == pytest.approx(published, rel=0.002)


@pytest.mark.parametrize(
    ("nbytes", "caps", "published"), [(12e6, S3, 2.757), (89e6, S3, 6.074), (12e6, CACHE, 0.333), (89e6, CACHE, 0.676)]
)
def test_published_rounds_of_scatter_reduce(nbytes: float, caps: StorageCaps, published: float) -> None:
    took = max(one_round(nbytes, 10, 10, caps).seconds)
    assert took == pytest.approx(published, rel=0.003)


@pytest.mark.parametrize(
    ("size", "caps", "published"), [(10, S3, 2.240), (50, S3, 11.840), (10, CACHE, 0.280), (50, CACHE, 1.480)]
)
def test_published_rounds_of_scatter_reduce_for_a_tiny_message(size: int, caps: StorageCaps, published: float) -> None:
    simulated = simulate(all_reduce(224), caps, size=size, aggregators=size)
    assert simulated.counts.put == size * (size - 1) + size, "every rank owns a chunk, be it an empty one"
    assert max(simulated.seconds) == pytest.approx(published, rel=0.003)


def test_large_messages_want_some_owners_neither_one_nor_all() -> None:
    took = {k: max(one_round(12e6, 9, k, S3).seconds) for k in (1, 3, 9)}
    assert took[3] < took[9] < took[1]


def test_dollars_of_a_hundred_workers() -> None:
    leader = simulate(all_reduce(100 * 64), S3, size=100)
    assert leader.usd == pytest.approx(0.0006, rel=0.05)
    everybody = simulate(all_reduce(100 * 64), S3, size=100, aggregators=100)
    assert everybody.usd == pytest.approx(0.058, rel=0.01)


def test_requests_and_bytes_are_those_of_the_engine() -> None:
    for aggregators in (1, 2, 3):
        channel = Count(memory())
        comms = engines(channel, 3, aggregators=aggregators, chunk_bytes=256)

        def program(planner: Planner) -> Requests:
            x = {"g": np.ones(300, np.float32)}
            for _ in range(3):
                yield from planner.all_reduce(x).run(None)
                yield from planner.broadcast(x, 1).run(None)
            yield from planner.all_gather(x)[0].run(None)

        def work(rank: int, comms: list = comms) -> None:  # type: ignore[type-arg]
            x = {"g": np.ones(300, np.float32)}
            for _ in range(3):
                comms[rank].all_reduce(x)
                comms[rank].broadcast(x, 1)
            comms[rank].all_gather(x)

        all_well(3, work)
        simulated = simulate(program, channel.caps, size=3, aggregators=aggregators, chunk_bytes=256)
        assert simulated.counts == channel.counts


def test_time_is_that_of_each_rank() -> None:
    """A broadcast: the root puts once; everybody else waits for that and gets."""

    def program(planner: Planner) -> Requests:
        yield from planner.broadcast({"g": np.ones(16, np.float32)}, 1).run(None)

    once = 0.08 + (64 + HEADER) / 65e6
    assert simulate(program, S3, size=3).seconds == pytest.approx((2 * once, once, 2 * once))


def test_a_free_storage_takes_no_time_and_no_money() -> None:
    simulated = simulate(all_reduce(640, rounds=3), StorageCaps(scope="process"), size=3)
    assert (simulated.seconds, simulated.usd) == ((0.0, 0.0, 0.0), 0.0)


def test_ranks_that_wait_for_each_other_are_told() -> None:
    with pytest.raises(DeadlineExpired, match=r"rank 1 for g0/in-0/0\.0\.0"):
        simulate(all_reduce(64), S3, size=2, pattern=EverybodyWaitsFirst.pattern)


def test_errors_of_ranks_are_raised() -> None:
    def program(planner: Planner) -> Requests:
        yield from planner.all_reduce({"g": np.ones(3 + planner.rank)}).run(None)

    with pytest.raises(MismatchedMessage):
        simulate(program, S3, size=2)
