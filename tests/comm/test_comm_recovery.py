"""What an engine tells of itself for checkpoints, and what a restored one takes over from those before it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from comm_channels import Forgetful, Plain, all_well, at_once, engines, memory

from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.keys import make_key, parse_key
from lambdaml_core.errors import ResultLost
from lambdaml_core.storage.layers import Complete, FullStorage


def rounds(comm: Engine, number: int, first: int = 0) -> None:
    for turn in range(first, first + number):
        x = {"g": np.full(300, comm.rank + turn, np.float64)}
        comm.all_reduce(x)
        assert x["g"].tolist() == [sum(range(comm.size)) + turn * comm.size] * 300


def sequences(channel: FullStorage) -> set[int]:
    places = [parse_key(key) for key in channel.list("")]
    return {place.sequence for place in places if place is not None}


# --- frontiers ----------------------------------------------------------------------------------------------


def test_results_stay_behind_the_frontier_and_go_when_all_have_passed() -> None:
    channel = memory()
    comms = engines(channel, 3, aggregators=2, chunk_bytes=640)
    for comm in comms:
        comm.frontier = 0
    all_well(3, lambda rank: rounds(comms[rank], 5))
    assert sequences(channel) == {0, 1, 2, 3, 4}
    assert [comm.passed for comm in comms] == [0, 0, 0]
    for comm, frontier in zip(comms, [4, 3, 5], strict=True):
        comm.frontier = frontier
    all_well(3, lambda rank: rounds(comms[rank], 1, 5))
    assert [comm.passed for comm in comms] == [3, 3, 3]
    assert sequences(channel) == {3, 4, 5}


@pytest.mark.parametrize("aggregators", [1, 3])
def test_retained_bytes_are_those_in_the_channel(aggregators: int) -> None:
    channel = memory()
    comms = engines(channel, 3, aggregators=aggregators, chunk_bytes=640)

    def work(rank: int) -> None:
        comms[rank].frontier = 0
        rounds(comms[rank], 3)
        comms[rank].broadcast({"g": np.ones(50)}, root=1)
        comms[rank].all_gather({"g": np.full(20, rank)})
        comms[rank].barrier()

    all_well(3, work)
    assert {comm.retained for comm in comms} == {sum(len(channel.get(key)) for key in channel.list(""))}


def test_a_lone_worker_counts_its_collectives() -> None:
    comm = Engine(memory(), rank=0, size=1, sequence=4)
    comm.frontier = 3
    comm.all_reduce({"g": np.ones(3)})
    comm.all_gather({"g": np.ones(3)})
    comm.broadcast({"g": np.ones(3)})
    comm.barrier()
    assert (comm.sequence, comm.passed, comm.retained) == (8, 3, 0)
    comm.adopt()


def test_whoever_waits_says_so() -> None:
    seen: list[bool] = []
    comms = engines(memory(), 2)
    waits = threading.Event()

    def interrupt() -> None:
        seen.append(comms[0].waiting)
        waits.set()

    comms[0]._interrupt = interrupt

    def work(rank: int) -> None:
        if rank == 1:
            waits.wait()
        comms[rank].barrier()

    all_well(2, work)
    assert all(seen)
    assert not comms[0].waiting


# --- adoption -----------------------------------------------------------------------------------------------


def test_a_restored_attempt_deletes_what_its_predecessor_left() -> None:
    channel = memory()
    comms = engines(channel, 2, aggregators=2, chunk_bytes=640, generation=3)
    for comm in comms:
        comm.frontier = 0
    all_well(2, lambda rank: rounds(comms[rank], 4))
    killed_before_it_deleted = make_key(3, 2, 1, 1, "in", 0)
    of_another_generation = make_key(2, 1, 1, 1)
    for key in (killed_before_it_deleted, of_another_generation, "g3/notes.txt"):
        channel.put(key, [b"left"])
    again = Engine(channel, rank=1, size=2, aggregators=2, chunk_bytes=640, generation=3, sequence=4, restored=True)
    again.adopt()
    comms[1] = again
    for comm in comms:
        comm.frontier = 4
    all_well(2, lambda rank: rounds(comms[rank], 1, 4))
    assert {key for key in channel.list("") if not key.startswith("g3/0-")} == {of_another_generation, "g3/notes.txt"}
    assert sequences(channel) == {1, 4}, "1 is the other generation's"


def test_a_channel_that_cannot_list_keeps_what_was_left() -> None:
    again = Engine(Complete(Plain()), rank=1, size=2, sequence=4, restored=True)
    again.adopt()
    assert not again.planner.progress.stored


# --- values that go -----------------------------------------------------------------------------------------


def test_a_result_that_was_dropped_comes_back_from_whoever_has_it() -> None:
    """Chunks go one by one, so that a rank that waits for the first result stops the others at the second."""
    channel = Forgetful(memory(), lambda key: key == make_key(0, 0, 0, 0), evicts=False)
    comms = [Engine(channel, rank=rank, size=3, chunk_bytes=640, deadline_s=0.4) for rank in range(3)]
    for comm in comms:
        comm._signs = lambda missing, sequence: dict.fromkeys(missing, 0.0)
        comm.planner._settings = replace(comm.planner._settings, window=1)
    all_well(3, lambda rank: rounds(comms[rank], 2))
    assert channel.dropped


def test_a_result_that_nobody_has_any_more_is_told() -> None:
    channel = Forgetful(memory(), lambda key: key == make_key(0, 1, 0, 0))

    def signs(missing: object, sequence: int) -> dict[int, float]:
        if comms[0].sequence > sequence:
            raise ResultLost("rank 0 is past it")
        return {0: 0.0, 1: 0.0}

    def work(rank: int) -> None:
        rounds(comms[rank], 2)
        if rank == 0:
            comms[rank].broadcast({"g": np.ones(1)})

    comms = [Engine(channel, rank=rank, size=2, deadline_s=0.2, signs=signs) for rank in range(2)]
    assert isinstance(at_once(2, work)[1], ResultLost)
