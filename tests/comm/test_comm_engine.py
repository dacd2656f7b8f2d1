"""Collectives over real channels, ranks in threads: every number of aggregators gives the bytes of a plain loop."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from comm_channels import (
    Plain,
    Recorder,
    SmallValues,
    Untouchable,
    all_well,
    engines,
    memory,
)
from comm_reference import OPS, Named, arrays_of_ranks, canonical, plain_fold
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lambdaml_core.comm.base import Op
from lambdaml_core.comm.engine import Engine
from lambdaml_core.storage.layers import Complete, Count, Prefix

sizes = st.integers(2, 5)
chunks = st.sampled_from([64, 200, 1 << 20])


def copies(x: Named) -> Named:
    return {name: a.copy() for name, a in x.items()}


def same(got: Any, want: Named) -> bool:
    return {n: (a.shape, canonical(a)) for n, a in got.items()} == {n: (a.shape, canonical(a)) for n, a in want.items()}


@given(st.data(), sizes, st.sampled_from(OPS), chunks)
def test_all_reduce_is_a_plain_loop_for_every_number_of_aggregators(
    data: st.DataObject, size: int, op: Op, chunk_bytes: int
) -> None:
    given_arrays = data.draw(arrays_of_ranks(size))
    expected = plain_fold(given_arrays, op)
    for aggregators in range(1, size + 1):
        comms = engines(memory(), size, aggregators=aggregators, chunk_bytes=chunk_bytes)
        xs = [copies(x) for x in given_arrays]
        all_well(size, lambda rank, comms=comms, xs=xs: comms[rank].all_reduce(xs[rank], op))  # type: ignore[misc]
        assert all(same(x, expected) for x in xs)


def test_each_array_has_its_own_operation_and_is_computed_by_fill() -> None:
    def work(rank: int) -> Named:
        x: Named = {"g": np.zeros(300), "least": np.zeros(2, np.int8), "most": np.zeros(1, np.float32)}

        def fill(ready: Any) -> None:
            x["g"][:], x["least"][:], x["most"][:] = rank, rank - 1, rank * 2
            ready(0, 2400)

        comms[rank].all_reduce(x, {"least": "min", "most": "max"}, fill=fill)
        return x

    comms = engines(memory(), 3, aggregators=2, chunk_bytes=640)
    for x in all_well(3, work):
        assert same(x, {"g": np.full(300, 3.0), "least": np.full(2, -1, np.int8), "most": np.array([4], np.float32)})


@given(st.data(), sizes)
def test_all_gather_brings_arrays_of_any_shapes(data: st.DataObject, size: int) -> None:
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    xs: list[Named] = [
        {"a": data.draw(hnp.arrays("float32", shape)), "b": data.draw(hnp.arrays("int16", shape))} for _ in range(size)
    ]
    comms = engines(memory(), size)
    for results in all_well(size, lambda rank: comms[rank].all_gather(xs[rank])):
        assert all(same(result, x) for result, x in zip(results, xs, strict=True))
        assert not any(np.shares_memory(a, xs[r][n]) for r, result in enumerate(results) for n, a in result.items())


@given(st.data(), sizes, chunks)
def test_broadcast_from_every_rank(data: st.DataObject, size: int, chunk_bytes: int) -> None:
    given_arrays = data.draw(arrays_of_ranks(size))
    comms = engines(memory(), size, chunk_bytes=chunk_bytes)
    for root in range(size):
        xs = [copies(x) for x in given_arrays]
        all_well(size, lambda rank, xs=xs, root=root: comms[rank].broadcast(xs[rank], root))  # type: ignore[misc]
        assert all(same(x, given_arrays[root]) for x in xs)


def test_nobody_leaves_a_barrier_before_everybody_has_entered() -> None:
    entered: list[int] = []
    comms = engines(memory(), 4)

    def work(rank: int) -> list[int]:
        counts = []
        for turn in range(20):
            entered.append(rank)
            comms[rank].barrier()
            counts.append(len(entered) - 4 * turn)
        return counts

    for counts in all_well(4, work):
        assert all(4 <= count <= 7 for count in counts)  # the others may have entered the next one


def test_one_rank_touches_no_channel() -> None:
    comm = Engine(Untouchable(memory()), rank=0, size=1)
    x = {"g": np.arange(3.0)}

    def fill(ready: Any) -> None:
        x["g"] += 1

    comm.all_reduce(x, fill=fill)
    comm.broadcast(x)
    comm.barrier()
    (gathered,) = comm.all_gather(x)
    assert gathered["g"].tolist() == x["g"].tolist() == [1, 2, 3]
    assert not np.shares_memory(gathered["g"], x["g"])


def every_collective(comm: Engine) -> list[float]:
    """Some of each; the numbers depend on all of them."""
    seen: list[float] = []
    x = {"g": np.linspace(comm.rank, 1, 200), "n": np.full(3, comm.rank, np.int64)}
    for turn in range(4):
        comm.all_reduce(x, {"n": "max"})
        comm.barrier()
        seen += [float(a["g"].sum()) for a in comm.all_gather({"g": x["g"][: comm.rank + turn]})]
        comm.broadcast(x, root=turn % comm.size)
        x["g"] *= 1 + comm.rank
        seen.append(float(x["g"][7] + x["n"][0]) / (1 + comm.rank))
    return seen


@pytest.mark.parametrize("aggregators", [1, 2, 3])
def test_after_a_run_only_the_results_of_the_last_collectives_are_left(aggregators: int) -> None:
    channel = memory()
    comms = engines(channel, 3, aggregators=aggregators, chunk_bytes=256)
    all_well(3, lambda rank: every_collective(comms[rank]))
    left = sorted(channel.list(""))
    # sequence 14 is the last all-gather: nobody can know that the others have read its results, nor 15's
    assert [key for key in left if not key.startswith("g0/0-")] == []
    assert {int(key.split("/")[2].split(".")[0]) for key in left} == {14, 15}


def test_a_channel_that_only_puts_gets_and_deletes_is_enough() -> None:
    plain, quick = Plain(), memory()
    comms = engines(Complete(plain), 3, aggregators=2, chunk_bytes=256)
    others = engines(quick, 3, aggregators=3)
    got = all_well(3, lambda rank: every_collective(comms[rank]))
    assert got == all_well(3, lambda rank: every_collective(others[rank]))
    assert {int(key.split("/")[2].split(".")[0]) for key in plain.values} == {14, 15}


@pytest.mark.parametrize("limit", [1000, 5000, 200_000])
def test_values_are_as_small_as_the_channel_wants_them(limit: int) -> None:
    channel = SmallValues(memory(), limit)
    comms = engines(channel, 2, aggregators=2)
    xs = [{"g": np.full(60_000, rank + 1.0), "n": np.ones(3, np.int8)} for rank in range(2)]
    all_well(2, lambda rank: comms[rank].all_reduce(xs[rank]))
    assert all(x["g"].tolist() == [3.0] * 60_000 for x in xs)
    assert limit / 4 < channel.largest <= limit


def test_requests_are_those_of_the_table() -> None:
    size = 4
    for aggregators in range(1, size + 1):
        channel = Count(memory())
        comms = engines(channel, size, aggregators=aggregators)
        all_well(size, lambda rank, comms=comms: comms[rank].all_reduce({"g": np.ones(400)}))  # type: ignore[misc]
        inputs = aggregators * (size - 1)
        assert (channel.counts.put, channel.counts.get) == (inputs + aggregators, 2 * inputs)
        assert channel.counts.delete == inputs
        assert channel.counts.list == 0


def test_generations_and_runs_share_a_channel() -> None:
    channel = memory()
    for prefix, generation in itertools.product("ab", [0, 1]):
        comms = engines(Prefix(channel, prefix), 2, generation=generation)
        xs = [{"g": np.full(3, rank + generation + ord(prefix))} for rank in range(2)]
        all_well(2, lambda rank, comms=comms, xs=xs: comms[rank].all_reduce(xs[rank]))  # type: ignore[misc]
        assert xs[0]["g"].tolist() == xs[1]["g"].tolist() == [2 * (generation + ord(prefix)) + 1] * 3


# --- replacements -------------------------------------------------------------------------------------------


def test_a_replacement_takes_what_is_there_and_computes_nothing() -> None:
    channel = Recorder(memory())
    comms = engines(channel, 3, aggregators=2, chunk_bytes=256)
    for comm in comms:
        comm.planner.frontier = 0  # no checkpoint yet: results stay
    want = all_well(3, lambda rank: every_collective(comms[rank]))
    before = len(channel.created)
    for rank in range(3):
        again = Engine(channel, rank=rank, size=3, aggregators=2, chunk_bytes=256, restored=True)
        again.planner.frontier = 0
        assert every_collective(again) == want[rank]
    assert len(channel.created) == before

    def fill(ready: Any) -> None:
        raise AssertionError("it was computed again")

    again = Engine(channel, rank=1, size=3, aggregators=2, chunk_bytes=256, restored=True)
    again.all_reduce({"g": np.zeros(200), "n": np.zeros(3, np.int64)}, {"n": "max"}, fill=fill)


def test_a_replacement_goes_on_where_the_results_end() -> None:
    channel = memory()
    comms = engines(channel, 2)
    for comm in comms:
        comm.planner.frontier = 0
    x = [{"g": np.full(3, rank + 1.0)} for rank in range(2)]
    all_well(2, lambda rank: comms[rank].all_reduce(x[rank]))
    replacement = Engine(channel, rank=1, size=2, restored=True)
    replacement.planner.frontier = 0
    y = {"g": np.full(3, 2.0)}
    replacement.all_reduce(y)
    assert y["g"].tolist() == x[0]["g"].tolist() == [3.0] * 3

    def work(rank: int) -> float:
        z = {"g": np.full(1, rank + 5.0)}
        (comms[0], replacement)[rank].all_reduce(z)
        return float(z["g"][0])

    assert all_well(2, work) == [11.0, 11.0]


def test_twins_give_the_same_numbers() -> None:
    channel = memory()
    comms = engines(channel, 3, aggregators=3, chunk_bytes=64)
    twins = [Engine(channel, rank=rank, size=3, aggregators=3, chunk_bytes=64, restored=True) for rank in (1, 2)]
    everybody = [*comms, *twins]
    for comm in everybody:
        comm.planner.frontier = 0
    results = all_well(5, lambda i: every_collective(everybody[i]))
    assert results[3:] == results[1:3]
