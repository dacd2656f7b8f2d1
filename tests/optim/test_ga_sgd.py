"""GA-SGD: one worker is a plain numpy loop bit for bit; several workers are one worker on the union of their rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ga_sgd_ranks import Array, Rows, alone, run, run_ranks, workers
from numpy.random import Generator
from scipy.sparse import csr_matrix, random_array

from lambdaml_core.builtin import GASGDOptions, LinearOptions
from lambdaml_core.comm.base import Arrays, Fill, Op
from lambdaml_core.data.base import Data
from lambdaml_core.errors import OptionError, RunError
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import State
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.schedule import rate
from lambdaml_core.options import parse

MODEL = LogisticRegression(LinearOptions())
OPTIONS = [
    GASGDOptions(learning_rate=0.3),
    GASGDOptions(learning_rate=0.3, l2=0.01),
    GASGDOptions(learning_rate=0.3, momentum=0.9),
    GASGDOptions(learning_rate=0.5, momentum=0.8, l2=0.01, schedule="inverse_sqrt"),
]


def problem(rows: int, features: int = 7, *, sparse: bool = False) -> tuple[Any, Array]:
    rng = np.random.default_rng(rows)
    x: Any = rng.standard_normal((rows, features), np.float32)
    y = (x @ rng.standard_normal(features) + rng.standard_normal(rows) > 0).astype(np.float32)
    if sparse:
        x = csr_matrix(x * (random_array((rows, features), density=0.4, rng=rng) > 0).toarray())
    return x, y


def plain_numpy(batches: list[tuple[Any, Array]], o: GASGDOptions, rounds: int, bias: bool = True) -> Array:
    """The textbook loop; shares nothing with the package but the options' values."""
    w = np.zeros(batches[0][0].shape[1], np.float32)
    b = np.zeros(1, np.float32)
    dw, db = np.zeros_like(w), np.zeros_like(b)
    for t in range(rounds):
        x, y = batches[t % len(batches)]
        if not len(y):
            continue
        p = 1 / (1 + np.exp(-(x @ w + b)))
        gw = x.T @ (p - y) / len(y) + np.float32(o.l2) * w
        gb = (p - y).sum() / np.float32(len(y))
        eta = np.float32(o.learning_rate / np.sqrt(t + 1) if o.schedule == "inverse_sqrt" else o.learning_rate)
        dw = np.float32(o.momentum) * dw - eta * gw
        db = np.float32(o.momentum) * db - eta * gb
        w = w + dw
        b = b + db if bias else b
    return np.concatenate([w, b]) if bias else w


def union_batches(x: Any, y: Array, *, batch_size: int, size: int) -> list[tuple[Any, Array]]:
    """What the ranks have in each step of an epoch, put together."""
    ranks = [Rows(x, y, batch_size=batch_size, rank=rank, size=size) for rank in range(size)]
    steps = [[rank.batch(t) for rank in ranks] for t in range(ranks[0].steps_per_epoch)]
    return [(np.concatenate([b.x for b in step]), np.concatenate([b.y for b in step])) for step in steps]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_one_worker_is_bit_for_bit_a_plain_numpy_loop(options: GASGDOptions, sparse: bool, bias: bool) -> None:
    x, y = problem(1003, sparse=sparse)
    model = LogisticRegression(LinearOptions(bias=bias))
    state, _ = run(GASGD(options), model, Rows(x, y, batch_size=100), alone(), 60)
    batches = [(x[t * 1003 // 11 : (t + 1) * 1003 // 11], y[t * 1003 // 11 : (t + 1) * 1003 // 11]) for t in range(11)]
    assert state.params.tobytes() == plain_numpy(batches, options, 60, bias).tobytes()


@pytest.mark.parametrize("options", OPTIONS)
def test_four_workers_are_one_on_the_union_of_their_batches(options: GASGDOptions) -> None:
    x, y = problem(1003)
    runs = [run_ranks(GASGD(options), MODEL, x, y, batch_size=90, size=4, rounds=50, aggregators=k) for k in (1, 3, 4)]
    states = [state for ranks in runs for state, _ in ranks]
    figures = [figures for ranks in runs for _, figures in ranks]
    assert len({state.params.tobytes() for state in states}) == 1  # the same on all ranks, for every K
    assert all(f == figures[0] for f in figures)
    expected = plain_numpy(union_batches(x, y, batch_size=90, size=4), options, 50)
    assert np.linalg.norm(states[0].params - expected) <= 1e-5 * np.linalg.norm(expected)


def test_the_loss_is_the_mean_over_the_rows_of_all_ranks() -> None:
    x, y = problem(1003)
    options = GASGDOptions(learning_rate=0.3, momentum=0.9, l2=0.1)
    (_, figures), *_ = run_ranks(GASGD(options), MODEL, x, y, batch_size=90, size=4, rounds=20, aggregators=2)
    batches = union_batches(x, y, batch_size=90, size=4)
    for t, figure in enumerate(figures):
        x_t, y_t = batches[t % len(batches)]
        before = plain_numpy(batches, options, t).astype(np.float64)
        margin = x_t @ before[:-1] + before[-1]
        assert figure["loss"] == pytest.approx(np.logaddexp(0, np.where(y_t > 0, -margin, margin)).mean(), rel=1e-5)


def test_ranks_without_rows_and_rounds_without_rows_change_nothing() -> None:
    x, y = problem(11)
    options = GASGDOptions(learning_rate=0.3, momentum=0.9)
    batches = union_batches(x, y, batch_size=1, size=4)
    assert {len(labels) for _, labels in batches} >= {0, 1}
    ranks = run_ranks(GASGD(options), MODEL, x, y, batch_size=1, size=4, rounds=30, aggregators=4)
    expected = plain_numpy(batches, options, 30)
    for state, figures in ranks:
        np.testing.assert_allclose(state.params, expected, rtol=1e-5, atol=1e-7)
        assert [math.isnan(f["loss"]) for f in figures[:11]] == [len(labels) == 0 for _, labels in batches]


class Recorder:
    """A lone worker's communicator that keeps what collectives returned, and checks that fill writes nothing else."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.results: list[dict[str, Array]] = []
        self.state: State | None = None

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        before = as_bytes(self.state)
        if fill is not None:
            fill(lambda lo, hi: None)
        assert as_bytes(self.state) == before
        self.results.append({name: array.copy() for name, array in x.items()})

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        """One worker has what it has."""

    def all_gather(self, x: Arrays) -> Any:
        raise NotImplementedError

    def barrier(self) -> None:
        raise NotImplementedError


class Replayer(Recorder):
    """Finds every result, so that fill is never called."""

    def __init__(self, results: list[dict[str, Array]]) -> None:
        super().__init__()
        self._found = iter(results)

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        found = next(self._found)
        assert found.keys() == x.keys()
        for name, array in x.items():
            array[...] = found[name]


def as_bytes(state: State | None) -> Any:
    if state is None:
        return None
    arrays = {"params": state.params, **state.shared, **state.private}
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("options", OPTIONS)
def test_replay_from_every_round_gives_the_identical_state(options: GASGDOptions) -> None:
    x, y = problem(300)
    data, optimizer, rounds = Rows(x, y, batch_size=40), GASGD(options), 12
    recorder = Recorder()
    checkpoints, figures = [], []
    for worker in workers(MODEL, data, recorder, rounds):
        recorder.state = recorder.state or optimizer.start(worker)
        checkpoints.append(copy(recorder.state))
        figures.append(optimizer.round(worker, recorder.state))
    for first in range(rounds):
        replayer = Replayer(recorder.results[first:])
        state = checkpoints[first]
        for worker in workers(MODEL, data, replayer, rounds):
            if worker.round >= first:
                assert optimizer.round(worker, state) == figures[worker.round]
        assert as_bytes(state) == as_bytes(recorder.state)


def copy(state: State) -> State:
    return State(
        state.params.copy(),
        {name: array.copy() for name, array in state.shared.items()},
        {name: array.copy() for name, array in state.private.items()},
    )


def test_arrays_of_the_state_change_in_place_and_velocity_is_shared() -> None:
    x, y = problem(100)
    for options, names in ((OPTIONS[0], set()), (OPTIONS[2], {"velocity"})):
        (worker,) = workers(MODEL, Rows(x, y, batch_size=10), alone(), 1)
        state = GASGD(options).start(worker)
        arrays = [state.params, *state.shared.values()]
        GASGD(options).round(worker, state)
        assert state.shared.keys() == names
        assert state.private == {}
        assert all(a is b for a, b in zip(arrays, [state.params, *state.shared.values()], strict=True))
        assert state.params.any()


class RandomStart(LogisticRegression):
    """A model whose first parameters depend on who draws them."""

    def init(self, data: Data, rng: Generator) -> Array:
        return rng.standard_normal(data.features + 1).astype(np.float32)


def test_all_ranks_start_from_the_parameters_of_rank_0() -> None:
    x, y = problem(90)
    model = RandomStart(LinearOptions())
    ranks = run_ranks(GASGD(OPTIONS[2]), model, x, y, batch_size=30, size=3, rounds=1, aggregators=1)
    assert len({state.params.tobytes() for state, _ in ranks}) == 1


def test_divergence_is_an_error_that_names_the_round() -> None:
    x, y = problem(200)
    with pytest.raises(RunError, match=r"the loss of round 1 is (inf|nan)") as caught:
        run(GASGD(OPTIONS[2]), MODEL, Rows(x * np.float32(1e20), y, batch_size=50), alone(), 20)
    assert "learning_rate" in str(caught.value.hint)


def test_a_penalty_that_would_diverge_by_itself_is_refused_before_anything_runs() -> None:
    parse(GASGDOptions, {"learning_rate": 3.9, "l2": 0.9, "momentum": 0.9})
    with pytest.raises(OptionError, match="diverges"):
        parse(GASGDOptions, {"learning_rate": 4.3, "l2": 0.9, "momentum": 0.9})


def test_rates_are_constant_or_fall_with_the_root_of_the_round() -> None:
    assert [rate("constant", 0.5, t) for t in (0, 1, 99)] == [0.5, 0.5, 0.5]
    assert [rate("inverse_sqrt", 0.5, t) for t in (0, 3, 99)] == [0.5, 0.25, 0.05]
