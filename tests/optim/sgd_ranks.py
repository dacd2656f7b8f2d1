"""Ranks to run an optimizer on: their rows, their communicators, and rounds of one or of several of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_matrix, random_array

from lambdaml_core.comm.base import Arrays, Communicator, Fill, Op
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import Model
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.threads import together

Array = NDArray[Any]
Figures = list[Mapping[str, float]]


class Rows:
    """A rank's rows and how many batches they are cut into, as the data contract says."""

    def __init__(self, x: Any, y: Array, steps: int, classes: int = 2) -> None:
        self._x, self._y, self.rows = x, y, len(y)
        self.features, self.classes, self.steps_per_epoch = x.shape[1], classes, steps

    def batch(self, step: int) -> Batch:
        t, steps = step % self.steps_per_epoch, self.steps_per_epoch
        lo, hi = t * self.rows // steps, (t + 1) * self.rows // steps
        return Batch(self._x[lo:hi], self._y[lo:hi], hi - lo)

    def blocks(self) -> Iterator[Batch]:
        yield Batch(self._x, self._y, self.rows)


def problem(rows: int, features: int = 7, *, sparse: bool = False) -> tuple[Any, Array]:
    rng = np.random.default_rng(rows)
    x: Any = rng.standard_normal((rows, features), np.float32)
    y = (x @ rng.standard_normal(features) + rng.standard_normal(rows) > 0).astype(np.float32)
    if sparse:
        x = csr_matrix(x * (random_array((rows, features), density=0.4, rng=rng) > 0).toarray())
    return x, y


def shares(x: Any, y: Array, *, batch_size: int, size: int = 1, classes: int = 2) -> list[Rows]:
    """What each rank owns."""
    return cut(x, y, [r * len(y) // size for r in range(1, size)], -(-len(y) // batch_size), classes)


def cut(x: Any, y: Array, cuts: Sequence[int], steps: int, classes: int = 2) -> list[Rows]:
    """Rows of ranks that begin and end at any places."""
    ends = [0, *cuts, len(y)]
    return [Rows(x[lo:hi], y[lo:hi], steps, classes) for lo, hi in pairwise(ends)]


def workers(model: Model, data: Rows, comm: Communicator, rounds: int) -> Iterator[Worker]:
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
    optimizer: Optimizer, model: Model, data: Rows, rounds: int, comm: Communicator | None = None
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
    optimizer: Optimizer, model: Model, ranks: Sequence[Rows], *, rounds: int, aggregators: int = 1
) -> Sequence[tuple[State, Figures]]:
    """All rounds of all ranks, each in a thread, through the engine and a storage."""
    return on_ranks(lambda rank, comm: run(optimizer, model, ranks[rank], rounds, comm), len(ranks), aggregators)


def on_ranks(work: Callable[[int, Engine], Any], size: int, aggregators: int = 1) -> list[Any]:
    """``work(rank, communicator)`` of all ranks, each in a thread."""
    url = f"memory://{uuid.uuid4()}"
    engines = [Engine(open_storage(url), rank=r, size=size, aggregators=aggregators) for r in range(size)]
    return together(*(lambda engine=engine: work(engine.rank, engine) for engine in engines), limit_s=60)


class Recorder:
    """A communicator that keeps what collectives returned, and checks that fill leaves the state alone."""

    def __init__(self, inner: Communicator) -> None:
        self.rank, self.size, self._inner = inner.rank, inner.size, inner
        self.results: list[dict[str, Array]] = []
        self.state: State | None = None

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        def checked(ready: Callable[[int, int], None]) -> None:
            before = as_bytes(self.state)
            assert fill is not None
            fill(ready)
            assert as_bytes(self.state) == before

        self._inner.all_reduce(x, op, fill=checked if fill else None)
        self.results.append({name: array.copy() for name, array in x.items()})

    def all_gather(self, x: Arrays) -> Any:
        raise NotImplementedError

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        raise NotImplementedError

    def barrier(self) -> None:
        raise NotImplementedError


class Replayer(Recorder):
    """Finds every result, so that fill is never called."""

    def __init__(self, inner: Communicator, results: list[dict[str, Array]]) -> None:
        super().__init__(inner)
        self._found = iter(results)

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        found = next(self._found)
        assert found.keys() == x.keys()
        for name, array in x.items():
            array[...] = found[name]


def as_bytes(state: State | None) -> Any:
    if state is None:
        return None
    arrays = {"params": state.params, **state.shared, **{f"own {k}": v for k, v in state.private.items()}}
    return {name: array.tobytes() for name, array in arrays.items()}


def copy(state: State) -> State:
    def copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array.copy() for name, array in arrays.items()}

    return State(state.params.copy(), copies(state.shared), copies(state.private))


def replays_from_every_round(optimizer: Optimizer, model: Model, data: Rows, comm: Communicator, rounds: int) -> State:
    """Assert that a worker which starts at any checkpoint and finds all results comes to the same bytes."""
    recorder = Recorder(comm)
    checkpoints: list[State] = []
    figures: Figures = []
    for worker in workers(model, data, recorder, rounds):
        recorder.state = recorder.state or begin(optimizer, worker)
        checkpoints.append(copy(recorder.state))
        figures.append(optimizer.round(worker, recorder.state))
    for first, state in enumerate(checkpoints):
        replayer = Replayer(comm, recorder.results[first:])
        for worker in list(workers(model, data, replayer, rounds))[first:]:
            assert optimizer.round(worker, state) == figures[worker.round]
        assert as_bytes(state) == as_bytes(recorder.state)
    assert recorder.state is not None
    return recorder.state
