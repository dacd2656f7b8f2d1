"""What ADMM comes to is the optimum of F that scikit-learn's solvers find, whoever has which rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from admm_help import MODELS, Array, objective, problem, ranks, solution, sparse_problem
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from sklearn.svm import SVC, LinearSVC

from lambdaml_admm.optimizer import ADMM
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.testing.optimizer import Rows
from lambdaml_core.testing.optimizer_laws.training import Training

SOLVERS: dict[str, Callable[[float, int], Any]] = {
    "logistic": lambda l2, n: LogisticRegression(C=1 / (l2 * n), tol=1e-9, max_iter=20_000),
    "squared hinge": lambda l2, n: LinearSVC(
        C=1 / (l2 * n), dual=False, intercept_scaling=100, tol=1e-9, max_iter=20_000
    ),
    "least squares": lambda l2, n: Ridge(alpha=l2 * n, solver="lsqr", tol=1e-12),
}


def optimum(model: str, rows: Rows, l2: float) -> float:
    """F of scikit-learn's solution."""
    solver = SOLVERS[model](l2, len(rows)).fit(rows.x.astype(np.float64), rows.y)
    params = np.append(np.ravel(solver.coef_), solver.intercept_)
    return objective(model, params, rows, l2=l2)


@pytest.mark.parametrize("l2", [1e-4, 1e-2])
@pytest.mark.parametrize("make", [problem, sparse_problem])
@pytest.mark.parametrize("model", SOLVERS)
def test_it_stops_at_the_optimum(model: str, make: Callable[[str], Rows], l2: float) -> None:
    """With the options as they are, and before the rounds are up."""
    rows = make(model)
    training = ranks(rows, model, ADMMOptions(l2=l2), size=3, rounds=300)
    figures = training.witnesses[0].figures
    assert len(figures) < 300
    assert figures[-1]["stop"] == 1
    assert all("stop" not in before for before in figures[:-1])
    best = optimum(model, rows, l2)
    ours = objective(model, solution(training), rows, l2=l2)
    assert ours <= best * (1 + 1e-4)
    assert figures[-1]["objective"] == pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_units_of_features_need_no_other_options(scale: float) -> None:
    rows = problem("logistic")
    scaled = Rows(rows.x * np.float32(scale), rows.y)
    l2 = 1e-3 * scale**2
    training = ranks(scaled, "logistic", ADMMOptions(l2=l2), size=3, rounds=300)
    assert objective("logistic", solution(training), scaled, l2=l2) <= optimum("logistic", rows, 1e-3) * (1 + 1e-4)


@pytest.mark.parametrize("l1", [0.01, 0.5])
@pytest.mark.parametrize("size", [1, 4])
def test_lasso_has_the_zeros_of_scikit_learns(l1: float, size: int) -> None:
    """Exactly the same ones, which are numbers equal to 0."""
    rows = problem("least squares")
    theirs = Lasso(alpha=l1, tol=1e-12, max_iter=100_000).fit(rows.x.astype(np.float64), rows.y)
    training = ranks(rows, "least squares", ADMMOptions(l1=l1, eps_rel=1e-6), size=size, rounds=1000)
    ours = solution(training)
    assert 0 < np.count_nonzero(theirs.coef_) < len(theirs.coef_)
    assert np.array_equal(ours[:-1] == 0, theirs.coef_ == 0)
    np.testing.assert_allclose(ours[:-1], theirs.coef_, atol=1e-3)
    assert ours[-1] == pytest.approx(theirs.intercept_, abs=1e-3)
    best = objective("least squares", np.append(theirs.coef_, theirs.intercept_), rows, l1=l1)
    assert objective("least squares", ours, rows, l1=l1) <= best * (1 + 1e-6)


def test_l1_and_l2_together() -> None:
    rows = problem("least squares")
    theirs = ElasticNet(alpha=0.3, l1_ratio=2 / 3, tol=1e-12, max_iter=100_000).fit(rows.x.astype(np.float64), rows.y)
    best = objective("least squares", np.append(theirs.coef_, theirs.intercept_), rows, l1=0.2, l2=0.1)
    ours = solution(ranks(rows, "least squares", ADMMOptions(l1=0.2, l2=0.1), size=3, rounds=300))
    assert objective("least squares", ours, rows, l1=0.2, l2=0.1) <= best * (1 + 1e-4)
    assert 0 < np.count_nonzero(theirs.coef_) < len(theirs.coef_)
    assert np.array_equal(ours[:-1] == 0, theirs.coef_ == 0)


@pytest.mark.parametrize("model", SOLVERS)
def test_it_does_not_matter_who_has_which_rows(model: str) -> None:
    """One worker, four, and four of which one has next to nothing and one nothing at all."""
    rows = problem(model)
    options = ADMMOptions(l2=1e-2, eps_abs=1e-9, eps_rel=1e-6, local_tolerance=0.01)
    found = [
        solution(ranks(rows, model, options, size=size, rounds=1000, cuts=cuts))
        for size, cuts in ((1, None), (4, None), (4, [150, 150, 160]))
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-4 * float(np.abs(found[0]).max()))


def test_more_than_two_classes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((500, 6)).astype(np.float32), np.empty(500, np.float32)
    y[:] = (x @ rng.standard_normal((6, 4)) + rng.gumbel(size=(500, 4))).argmax(axis=1)
    rows = Rows(x, y, classes=4)
    training = Training(ADMM(ADMMOptions(l2=1e-2)), MODELS["logistic"], rows, 300, 100, 60.0, size=3)
    training.run()
    theirs = LogisticRegression(C=1 / (1e-2 * 500), tol=1e-9, max_iter=20_000).fit(x.astype(np.float64), y)
    ours = solution(training).astype(np.float64)

    def value(weights: Array, bias: Array) -> float:
        params = np.append(weights.ravel(), bias)
        loss = MODELS["logistic"].loss_and_gradient(params, Batch(x, y, 500), np.empty_like(params))
        return loss / 500 + 1e-2 / 2 * float((weights**2).sum())

    assert value(ours[:24].reshape(6, 4), ours[24:]) <= value(theirs.coef_.T, theirs.intercept_) * (1 + 1e-4)


def test_hinge_comes_near_the_best_known() -> None:
    """It has no gradient where it matters, so that its local problems are solved less well."""
    rows = problem("hinge")
    solver = SVC(kernel="linear", C=1 / (1e-2 * len(rows)), tol=1e-8).fit(rows.x.astype(np.float64), rows.y)
    best = objective("hinge", np.append(solver.coef_, solver.intercept_), rows, l2=1e-2)
    ours = solution(ranks(rows, "hinge", ADMMOptions(l2=1e-2), size=3, rounds=30))
    assert objective("hinge", ours, rows, l2=1e-2) <= best * (1 + 5e-3)


def test_mini_batches_come_near_the_optimum() -> None:
    rows = problem("logistic")
    training = ranks(rows, "logistic", ADMMOptions(l2=1e-2, local="sgd"), size=3, rounds=40)
    assert objective("logistic", solution(training), rows, l2=1e-2) <= optimum("logistic", rows, 1e-2) * (1 + 1e-2)
