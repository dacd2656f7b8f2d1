"""Why a descent ends, and what it says of itself on the way."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from lbfgs_problems import MODELS, objective, problem, train

from lambdaml_core.errors import RunError
from lambdaml_core.optim.base import Worker
from lambdaml_core.testing.optimizer_laws.rows import Rows
from lambdaml_core.testing.optimizer_laws.training import Training
from lambdaml_lbfgs.descent import FLOOR, SMALL_DECREASE, SMALL_GRADIENT
from lambdaml_lbfgs.optimizer import LBFGS
from lambdaml_lbfgs.options import LBFGSOptions

L2 = 1e-3


def test_it_ends_where_the_gradient_is_small() -> None:
    trained = train("least squares", problem("least squares"), LBFGSOptions(l2=L2, tolerance=1e-3))
    first, last = trained.figures[0], trained.figures[-1]
    assert last["stop"] == SMALL_GRADIENT
    assert last["gradient_norm"] <= 1e-3 * first["gradient_norm"] < trained.figures[-2]["gradient_norm"]
    assert not any("stop" in figures for figures in trained.figures[:-1])


def test_it_ends_at_once_at_the_optimum() -> None:
    rows = Rows(np.ones((4, 1), np.float32), np.array([0, 1, 0, 1], np.float32))
    trained = train("logistic", rows, LBFGSOptions())
    assert [f["stop"] for f in trained.figures] == [SMALL_GRADIENT]
    assert not trained.params.any()


def test_it_ends_where_the_objective_hardly_falls() -> None:
    trained = train("hinge", problem("hinge"), LBFGSOptions(l2=L2, tolerance=1e-4), rounds=2000)
    values = [f["objective"] for f in trained.figures]
    assert trained.figures[-1]["stop"] == SMALL_DECREASE
    steps = [a for a, b in pairwise([math.inf, *values]) if a != b]
    assert steps[-10] - values[-1] <= 1e-4 * values[-1]


@pytest.mark.parametrize("l1", [0, 1e-3])
@pytest.mark.parametrize("model", ["logistic", "squared hinge", "hinge", "least squares"])
def test_it_ends_where_rounding_leaves_no_way_down(model: str, l1: float) -> None:
    rows = problem(model, rows=300, features=5)
    trained = train(model, rows, LBFGSOptions(l1=l1, l2=L2, tolerance=0), rounds=2000)
    assert trained.figures[-1]["stop"] in (SMALL_GRADIENT, SMALL_DECREASE, FLOOR)
    assert trained.reason == "converged"


def test_figures_tell_of_the_parameters_that_are_kept() -> None:
    """In every round, whichever point it has looked at; F does not rise."""
    rows = problem("hinge", rows=300, features=5)
    training = Training(LBFGS(LBFGSOptions(l2=L2, tries=3)), MODELS["hinge"], rows, 60, len(rows), 30.0)
    training.run()
    (witness,) = training.witnesses.values()
    for state, figures in zip(witness.states[1:], witness.figures, strict=True):
        value, _ = objective("hinge", state.params, rows, 0, L2)
        assert figures["objective"] == pytest.approx(value, rel=1e-5)
        assert figures["loss"] == pytest.approx(objective("hinge", state.params, rows, 0, 0)[0], rel=1e-5)
    values = [f["objective"] for f in witness.figures]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(values))
    assert any(later == earlier for earlier, later in pairwise(values)), "no search took two rounds"


def test_a_start_without_a_finite_loss_is_refused() -> None:
    rows = problem("logistic", rows=50, features=3)
    rows.x[7, 1] = np.inf
    with pytest.raises(RunError, match="not finite"):
        train("logistic", rows, LBFGSOptions())


class Lone:
    """The communicator of one worker."""

    rank, size = 0, 1

    def all_reduce(self, x: Any, op: Any = "sum", *, fill: Any = None) -> None:
        fill(lambda lo, hi: None)


def test_without_rows_nothing_changes() -> None:
    (nothing,) = problem("logistic", rows=50, features=3).part(0, 0).shares(1, 1)

    def scratch(name: str, shape: Any, dtype: Any) -> Any:
        return np.full(shape, np.nan, dtype)

    def rng(purpose: str) -> Any:
        return np.random.default_rng(0)

    comm: Any = Lone()
    w = Worker(0, 1, 0, 2, MODELS["logistic"], nothing, comm, rng, scratch)
    optimizer = LBFGS(LBFGSOptions())
    s = optimizer.start(w, np.ones(4, np.float32))
    for n in range(2):
        figures = optimizer.round(w._replace(round=n), s)
        assert math.isnan(figures["loss"])
        assert "stop" not in figures
        np.testing.assert_array_equal(s.params, 1)


def test_a_round_is_an_epoch() -> None:
    assert LBFGS(LBFGSOptions()).steps_per_round(7) == 7
