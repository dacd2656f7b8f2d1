"""It comes down to what scipy's and scikit-learn's solvers find of the same objective, computed in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lbfgs_problems import Array, objective, problem, train
from scipy.optimize import fmin_l_bfgs_b
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

from lambdaml_core import train as run
from lambdaml_core.testing.optimizer_laws.rows import Rows
from lambdaml_lbfgs.options import LBFGSOptions

L2 = 1e-3


def scipys(model: str, rows: Rows) -> float:
    """F at scipy's optimum, which it finds in float64."""
    size = (rows.x.shape[1] + 1) * (rows.classes if rows.classes > 2 else 1)
    value = fmin_l_bfgs_b(
        lambda w: objective(model, w, rows, 0, L2), np.zeros(size), m=50, factr=10, pgtol=1e-10, maxiter=10_000
    )[1]
    return float(value)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("model", "classes"),
    [("logistic", 2), ("logistic", 3), ("squared hinge", 2), ("squared hinge", 3), ("least squares", 2)],
)
def test_the_objective_comes_down_to_scipys_optimum(model: str, classes: int, sparse: bool) -> None:
    rows = problem(model, sparse=sparse, classes=classes)
    trained = train(model, rows, LBFGSOptions(l2=L2), size=2)
    ours, _ = objective(model, trained.params, rows, 0, L2)
    best = scipys(model, rows)
    assert ours <= (1 + 1e-4) * best
    assert ours >= (1 - 1e-6) * best, "another objective"
    assert trained.reason == "converged"
    assert len(trained.figures) <= 100
    assert trained.figures[-1]["objective"] == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "solver"),
    [
        ("logistic", LogisticRegression(C=1 / (L2 * 2000), tol=1e-10, max_iter=10_000)),
        ("least squares", Ridge(alpha=L2 * 2000)),
    ],
)
def test_parameters_are_scikit_learns(model: str, solver: Any) -> None:
    rows = problem(model)
    solver.fit(rows.x.astype(np.float64), rows.y)
    theirs = np.append(solver.coef_.ravel(), solver.intercept_)
    trained = train(model, rows, LBFGSOptions(l2=L2, tolerance=1e-7))
    np.testing.assert_allclose(trained.params, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("l2", [0, 1e-2])
def test_lasso_and_elastic_net_are_scikit_learns(sparse: bool, l2: float) -> None:
    rows = problem("least squares", sparse=sparse)
    l1 = 0.02
    options = {"alpha": l1 + l2, "l1_ratio": l1 / (l1 + l2), "tol": 1e-10, "max_iter": 100_000}
    solver = ElasticNet(**options).fit(rows.x.astype(np.float64), rows.y)
    theirs = np.append(solver.coef_, solver.intercept_)
    trained = train("least squares", rows, LBFGSOptions(l1=l1, l2=l2), size=3)
    ours, best = (objective("least squares", w, rows, l1, l2)[0] for w in (trained.params, theirs))
    assert ours <= (1 + 1e-4) * best
    assert 0 < np.count_nonzero(theirs) < len(theirs), "nothing is left out, or all"
    exact = train("least squares", rows, LBFGSOptions(l1=l1, l2=l2, tolerance=1e-7))
    np.testing.assert_array_equal(exact.params == 0, theirs == 0)


def test_logistic_regression_with_l1_has_no_way_down_left() -> None:
    """The gradient without the penalty is -l1 sign(w) where w is not 0, and within l1 where it is."""
    rows, l1 = problem("logistic", classes=3), 5e-3
    trained = train("logistic", rows, LBFGSOptions(l1=l1, tolerance=1e-7))
    _, gradient = objective("logistic", trained.params, rows, 0, 0)
    w, g, bias = trained.params[:-3], gradient[:-3], gradient[-3:]
    assert 0 < np.count_nonzero(w) < len(w)
    np.testing.assert_allclose(g[w != 0], -l1 * np.sign(w[w != 0]), rtol=0, atol=1e-2 * l1)
    assert np.abs(g[w == 0]).max() <= 1.01 * l1
    np.testing.assert_allclose(bias, 0, atol=1e-2 * l1)


@pytest.mark.parametrize("l1", [0, 5e-3])
def test_four_workers_find_what_one_finds(l1: float) -> None:
    rows = problem("logistic")
    one, four = (train("logistic", rows, LBFGSOptions(l1=l1, l2=L2, tolerance=1e-6), size=size) for size in (1, 4))
    np.testing.assert_allclose(four.params, one.params, rtol=1e-2, atol=1e-3)
    assert four.figures[-1]["objective"] == pytest.approx(one.figures[-1]["objective"], rel=1e-6)
    early = [f["objective"] for f in one.figures[:10]]
    assert [f["objective"] for f in four.figures[:10]] == pytest.approx(early, rel=1e-5)


def test_a_run_by_name(tmp_path: Any) -> None:
    rows = problem("logistic", sparse=True, rows=500)
    trained = run(
        rows.x,
        rows.y,
        optimizer={"name": "lbfgs", "l2": L2},
        workers=2,
        rounds=200,
        data={"validation": 0},
        provider="inline",
        store=str(tmp_path),
    )
    params: Array = np.append(trained.model.coef, trained.model.intercept)
    assert objective("logistic", params, rows, 0, L2)[0] <= (1 + 1e-4) * scipys("logistic", rows)
    assert trained.record["stop_reason"] == "converged"
