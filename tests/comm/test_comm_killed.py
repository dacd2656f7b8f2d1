"""Processes that are killed in the middle of collectives over file://, and start again: the numbers stay the same."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
from comm_channels import PATIENCE_S
from comm_reference import plain_fold
from numpy.typing import NDArray

from lambdaml_core.builtin import FileOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.keys import make_key
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.file import FileStorage
from lambdaml_core.storage.layers import Complete, FullStorage

RANKS, ROUNDS, AGGREGATORS = 3, 200, 2


def contribution(rank: int, turn: int, before: NDArray[np.float32]) -> NDArray[np.float32]:
    fresh = np.cos(np.arange(before.size, dtype=np.float32) * (1 + rank) + turn).astype(np.float32)
    return fresh + np.float32(0.25) * before


def open_channel(folder: str) -> FullStorage:
    return Complete(FileStorage(StorageURL("file", path=folder), FileOptions(sync=False)))


def work(folder: str, rank: int, restored: bool, pipe: Connection) -> None:
    comm = Engine(
        open_channel(folder),
        rank=rank,
        size=RANKS,
        aggregators=AGGREGATORS,
        chunk_bytes=4096,
        restored=restored,
        deadline_s=PATIENCE_S,
    )
    comm.planner.frontier = 0  # there is no checkpoint but the start
    x = {"g": np.zeros(5000, np.float32)}
    for turn in range(ROUNDS):
        x["g"] = contribution(rank, turn, x["g"])
        comm.all_reduce(x)
    pipe.send(x["g"].tobytes())


@pytest.fixture
def folder() -> Iterator[str]:
    path = tempfile.mkdtemp(dir="/dev/shm")
    yield path
    shutil.rmtree(path)


def test_killed_ranks_start_again_and_change_nothing(folder: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes: dict[int, BaseProcess] = {}
    pipes: dict[int, Connection] = {}

    def start(rank: int, restored: bool) -> None:
        pipes[rank], theirs = context.Pipe()
        processes[rank] = context.Process(target=work, args=(folder, rank, restored, theirs))
        processes[rank].start()

    for rank in range(RANKS):
        start(rank, restored=False)
    channel = open_channel(folder)
    for turn, rank in [(20, 1), (80, 0), (81, 2)]:
        assert channel.get_many([make_key(0, turn, 0, 0)], wait_s=PATIENCE_S), "the run has come so far"
        processes[rank].kill()
        processes[rank].join()
        start(rank, restored=True)
    state = np.zeros(5000, np.float32)
    for turn in range(ROUNDS):
        state = plain_fold([{"g": contribution(rank, turn, state)} for rank in range(RANKS)], "sum")["g"]
    for rank in range(RANKS):
        assert pipes[rank].poll(PATIENCE_S)
        assert pipes[rank].recv() == state.tobytes()
        processes[rank].join(PATIENCE_S)
        assert processes[rank].exitcode == 0
    channel.close()
