"""Ranks to run an optimizer on: their rows, their communicators, and rounds of one or of several of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_matrix, random_array

from lambdaml_core.comm.base import Communicator
from lambdaml_core.comm.engine import Engine
from lambdaml_core.models.base import Model
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.optimizer_laws.rows import Rows, Share
from lambdaml_core.testing.threads import together

Array = NDArray[Any]
Figures = list[Mapping[str, float]]


def problem(rows: int, features: int = 7, *, sparse: bool = False) -> tuple[Any, Array]:
    rng = np.random.default_rng(rows)
    x: Any = rng.standard_normal((rows, features), np.float32)
    y = (x @ rng.standard_normal(features) + rng.standard_normal(rows) > 0).astype(np.float32)
    if sparse:
        x = csr_matrix(x * (random_array((rows, features), density=0.4, rng=rng) > 0).toarray())
    return x, y


def shares(x: Any, y: Array, *, batch_size: int, size: int = 1, classes: int = 2) -> list[Share]:
    """What each rank owns."""
    return Rows(x, y, classes).shares(size, batch_size)


def cut(x: Any, y: Array, cuts: Sequence[int], steps: int, classes: int = 2) -> list[Share]:
    """Rows of ranks that begin and end at any places."""
    return Rows(x, y, classes).cut(cuts, steps)


def workers(model: Model, data: Share, comm: Communicator, rounds: int) -> Iterator[Worker]:
    """One rank's view of each round."""
    arrays: dict[tuple[Any, ...], Array] = {}

    def scratch(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return arrays.setdefault((name, shape, dtype), np.full(shape, np.nan, dtype))

    for round in range(rounds):

        def rng(purpose: str, round: int = round) -> Generator:
            return np.random.default_rng([comm.rank, round, *purpose.encode()])

        yield Worker(comm.rank, comm.size, round, rounds, model, data, comm, rng, scratch)


def begin(optimizer: Optimizer, worker: Worker) -> State:
    return optimizer.start(worker, worker.model.init(worker.data, worker.rng("init")))


def run(
    optimizer: Optimizer, model: Model, data: Share, rounds: int, comm: Communicator | None = None
) -> tuple[State, Figures]:
    """All rounds of one rank, alone if no communicator is given: its last state, and what each round returned."""
    all_rounds = list(workers(model, data, comm or alone(), rounds))
    state = begin(optimizer, all_rounds[0])
    figures = [optimizer.round(worker, state) for worker in all_rounds]
    return state, figures


def alone() -> Engine:
    """The communicator of a single worker; it never touches its channel."""
    return Engine(open_storage("memory://never-used"), rank=0, size=1)


def run_ranks(
    optimizer: Optimizer, model: Model, ranks: Sequence[Share], *, rounds: int, aggregators: int = 1
) -> Sequence[tuple[State, Figures]]:
    """All rounds of all ranks, each in a thread, through the engine and a storage."""
    return on_ranks(lambda rank, comm: run(optimizer, model, ranks[rank], rounds, comm), len(ranks), aggregators)


def on_ranks(work: Callable[[int, Engine], Any], size: int, aggregators: int = 1) -> list[Any]:
    """``work(rank, communicator)`` of all ranks, each in a thread."""
    url = f"memory://{uuid.uuid4()}"
    engines = [Engine(open_storage(url), rank=r, size=size, aggregators=aggregators) for r in range(size)]
    return together(*(lambda engine=engine: work(engine.rank, engine) for engine in engines), limit_s=60)
