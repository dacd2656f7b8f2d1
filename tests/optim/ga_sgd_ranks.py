"""Ranks to run an optimizer on: their rows, their communicators, and rounds of one or of several of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.comm.base import Communicator
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import Model
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.threads import together

Array = NDArray[Any]


class Rows:
    """A rank's rows, cut as the data contract says."""

    def __init__(self, x: Any, y: Array, *, batch_size: int, rank: int = 0, size: int = 1) -> None:
        total = len(y)
        lo, hi = rank * total // size, (rank + 1) * total // size
        self._x, self._y, self.rows = x[lo:hi], y[lo:hi], hi - lo
        self.features, self.classes = x.shape[1], 2
        self.steps_per_epoch = -(-total // batch_size)

    def batch(self, step: int) -> Batch:
        t, steps = step % self.steps_per_epoch, self.steps_per_epoch
        lo, hi = t * self.rows // steps, (t + 1) * self.rows // steps
        return Batch(self._x[lo:hi], self._y[lo:hi], hi - lo)

    def blocks(self) -> Iterator[Batch]:
        yield Batch(self._x, self._y, self.rows)


def workers(model: Model, data: Rows, comm: Communicator, rounds: int) -> Iterator[Worker]:
    """One rank's view of each round."""
    arrays: dict[str, Array] = {}

    def scratch(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return arrays.setdefault(name, np.empty(shape, dtype))

    for round in range(rounds):

        def rng(purpose: str, round: int = round) -> Generator:
            return np.random.default_rng([comm.rank, round, *purpose.encode()])

        yield Worker(comm.rank, comm.size, round, rounds, model, data, comm, rng, scratch)


def run(
    optimizer: Optimizer, model: Model, data: Rows, comm: Communicator, rounds: int
) -> tuple[State, list[Mapping[str, float]]]:
    """All rounds of one rank: its last state, and what each round returned."""
    state, figures = None, []
    for worker in workers(model, data, comm, rounds):
        state = state or optimizer.start(worker, model.init(data, worker.rng("init")))
        figures.append(optimizer.round(worker, state))
    assert state is not None
    return state, figures


def alone() -> Engine:
    """The communicator of a single worker; it never touches its channel."""
    return Engine(open_storage("memory://never-used"), rank=0, size=1)


def run_ranks(
    optimizer: Optimizer, model: Model, x: Any, y: Array, *, batch_size: int, size: int, rounds: int, aggregators: int
) -> Sequence[tuple[State, list[Mapping[str, float]]]]:
    """All rounds of all ranks, each in a thread, through the engine and a storage."""
    url = f"memory://{uuid.uuid4()}"

    def rank_runs(rank: int) -> Callable[[], tuple[State, list[Mapping[str, float]]]]:
        data = Rows(x, y, batch_size=batch_size, rank=rank, size=size)
        comm = Engine(open_storage(url), rank=rank, size=size, aggregators=aggregators)
        return lambda: run(optimizer, model, data, comm, rounds)

    return together(*(rank_runs(rank) for rank in range(size)), limit_s=60)
