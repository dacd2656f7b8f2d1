"""Collectives between processes over file://: the bytes of a plain loop, whatever memory is recycled on the way."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import pytest
from comm_channels import PATIENCE_S
from comm_reference import OPS, Named, arrays_of_ranks, canonical, plain_fold
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdaml_core.builtin import FileOptions
from lambdaml_core.comm.base import Op
from lambdaml_core.comm.engine import Engine
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.file import FileStorage
from lambdaml_core.storage.layers import Complete, FullStorage, Prefix

RANKS = 3


class Task(NamedTuple):
    """What one rank does in one example: as many all-reduces of x, with everything else in between."""

    name: str
    aggregators: int
    chunk_bytes: int
    op: Op
    x: Named
    turns: int


def serve(rank: int, folder: str, pipe: Connection) -> None:
    """A worker: examples come and results go until the pipe is closed."""
    channel = open_channel(folder)
    while (task := pipe.recv()) is not None:
        pipe.send(perform(rank, channel, task))
    channel.close()


def open_channel(folder: str) -> FullStorage:
    return Complete(FileStorage(StorageURL("file", path=folder), FileOptions(sync=False)))


def perform(rank: int, channel: FullStorage, task: Task) -> list[Any]:
    comm = Engine(
        Prefix(channel, task.name),
        rank=rank,
        size=RANKS,
        aggregators=task.aggregators,
        chunk_bytes=task.chunk_bytes,
        deadline_s=PATIENCE_S,
    )
    results: list[Any] = []
    for turn in range(task.turns):
        x = {name: a.copy() for name, a in task.x.items()}
        comm.all_reduce(x, task.op)
        results.append(x)
        comm.broadcast(x, root=turn % RANKS)
        results.append(comm.all_gather(task.x)[(rank + turn) % RANKS])
        comm.barrier()
    return results


@pytest.fixture(scope="module", params=["/dev/shm", None], ids=["tmpfs", "disk"])  # noqa: S108 - in a folder of its own
def folder(request: pytest.FixtureRequest) -> Iterator[str]:
    path = tempfile.mkdtemp(dir=request.param)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def workers(folder: str) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(RANKS):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(rank, folder, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    yield pipes
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0


def together(workers: list[Connection], tasks: list[Task]) -> list[list[Any]]:
    for pipe, task in zip(workers, tasks, strict=True):
        pipe.send(task)
    return [pipe.recv() for pipe in workers]


def same(got: Named, want: Named) -> bool:
    return {n: (a.shape, canonical(a)) for n, a in got.items()} == {n: (a.shape, canonical(a)) for n, a in want.items()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    aggregators=st.integers(1, RANKS),
    chunk_bytes=st.sampled_from([64, 256, 1 << 20]),
    op=st.sampled_from(OPS),
)
def test_processes_get_the_numbers_of_a_plain_loop(
    workers: list[Connection], folder: str, data: st.DataObject, aggregators: int, chunk_bytes: int, op: Op
) -> None:
    xs = data.draw(arrays_of_ranks(RANKS))
    reduced = plain_fold(xs, op)
    channel = open_channel(folder)
    tasks = [Task("example", aggregators, chunk_bytes, op, x, turns=3) for x in xs]
    for rank, results in enumerate(together(workers, tasks)):
        assert all(same(x, reduced) for x in results[0::2])
        assert all(same(x, xs[(rank + turn) % RANKS]) for turn, x in enumerate(results[1::2]))
    left = list(channel.list("example/"))
    last = 4 * 3 - 1  # the barrier; nobody can know yet that everybody has read the result
    assert left == [f"example/g0/0-0/{last}.0"]
    channel.delete(left)
    channel.close()


@pytest.mark.parametrize("aggregators", [1, 2, 3])
def test_large_messages_in_recycled_memory(workers: list[Connection], aggregators: int) -> None:
    rng = np.random.default_rng(aggregators)
    xs: list[Named] = [
        {"g": rng.normal(size=700_000).astype(np.float32), "n": np.array([rank])} for rank in range(RANKS)
    ]
    reduced = plain_fold(xs, "sum")
    tasks = [Task(f"large-{aggregators}", aggregators, 1 << 20, "sum", x, turns=6) for x in xs]
    for rank, results in enumerate(together(workers, tasks)):
        assert all(same(x, reduced) for x in results[0::2])
        assert all(same(x, xs[(rank + turn) % RANKS]) for turn, x in enumerate(results[1::2]))
