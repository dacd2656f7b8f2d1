"""GA-SGD and MA-SGD reach what scikit-learn's solver reaches on the same objective, on real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from sgd_ranks import Array, run, run_ranks, shares
from sklearn.datasets import load_breast_cancer, load_svmlight_file
from sklearn.linear_model import LogisticRegression as Sklearn
from sklearn.metrics import log_loss, roc_auc_score

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD

MODEL = LogisticRegression(LinearOptions())
L2 = 1e-4
VALIDATION = 0.2


class Split(NamedTuple):
    x: Any
    y: Array
    validation_x: Any
    validation_y: Array


def split(x: Any, y: Array, seed: int) -> Split:
    order = np.random.default_rng(seed).permutation(len(y))
    cut = int(len(y) * VALIDATION)
    return Split(x[order[cut:]], y[order[cut:]], x[order[:cut]], y[order[:cut]])


def breast_cancer(seed: int) -> Split:
    x, y = load_breast_cancer(return_X_y=True)
    return split(((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y.astype(np.float32), seed)


def census(seed: int) -> Split:
    x, y = load_svmlight_file(str(CENSUS_INCOME), dtype=np.float32)
    return split(x, (y > 0).astype(np.float32), seed)


def objective(params: Array, s: Split, l2: float) -> float:
    """The mean log loss of the training rows and the penalty, in float64."""
    margin = s.x @ params[:-1] + params[-1]
    return float(np.logaddexp(0, np.where(s.y > 0, -margin, margin)).mean() + l2 / 2 * (params[:-1] @ params[:-1]))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("load", "batch_size", "rounds", "options"),
    [
        (breast_cancer, 100, 2000, GASGDOptions(learning_rate=0.3, momentum=0.9, l2=L2)),
        (census, 2000, 320, GASGDOptions(learning_rate=0.3, momentum=0.95, l2=L2)),  # those of the quickstart
    ],
)
def test_validation_figures_are_as_good_as_scikit_learns(
    load: Callable[[int], Split], batch_size: int, rounds: int, options: GASGDOptions, seed: int
) -> None:
    s = load(seed)
    theirs = Sklearn(C=1 / (L2 * len(s.y)), tol=1e-8, max_iter=5000).fit(s.x, s.y)  # C that makes the penalty the same
    (data,) = shares(s.x, s.y, batch_size=batch_size)
    state, _ = run(GASGD(options), MODEL, data, rounds)
    ours = MODEL.probabilities(state.params, Batch(s.validation_x, s.validation_y, len(s.validation_y)))[:, 1]
    good = theirs.predict_proba(s.validation_x)[:, 1]
    assert log_loss(s.validation_y, ours) <= 1.02 * log_loss(s.validation_y, good)
    assert roc_auc_score(s.validation_y, ours) >= roc_auc_score(s.validation_y, good) - 0.01


def test_the_objective_comes_down_to_scikit_learns_optimum() -> None:
    s = breast_cancer(0)
    l2 = 0.01
    theirs = Sklearn(C=1 / (l2 * len(s.y)), tol=1e-10, max_iter=5000).fit(s.x, s.y)
    (data,) = shares(s.x, s.y, batch_size=len(s.y))
    state, _ = run(GASGD(GASGDOptions(learning_rate=0.3, momentum=0.9, l2=l2)), MODEL, data, 500)
    ours = state.params.astype(np.float64)
    best = objective(np.append(theirs.coef_[0], theirs.intercept_), s, l2)
    assert objective(ours, s, l2) <= (1 + 1e-6) * best
    np.testing.assert_allclose(ours, np.append(theirs.coef_[0], theirs.intercept_), rtol=1e-2, atol=1e-3)


RATES: dict[str, Any] = {"learning_rate": 1, "schedule": "cosine", "momentum": 0.9, "nesterov": True, "l2": L2}


@pytest.mark.parametrize(
    ("optimizer", "size", "rounds", "within"),
    [
        (GASGD(GASGDOptions(**RATES)), 1, 4000, 1e-3),
        (MASGD(MASGDOptions(**RATES, local_steps=2, keep_momentum=True)), 2, 2000, 5e-3),
    ],
)
def test_mini_batches_come_down_to_scikit_learns_optimum(
    optimizer: Optimizer, size: int, rounds: int, within: float
) -> None:
    s = breast_cancer(0)
    theirs = Sklearn(C=1 / (L2 * len(s.y)), tol=1e-10, max_iter=5000).fit(s.x, s.y)
    best = objective(np.append(theirs.coef_[0], theirs.intercept_), s, L2)
    ranks = shares(s.x, s.y, batch_size=len(s.y) // 4, size=size)
    (state, _), *_ = run_ranks(optimizer, MODEL, ranks, rounds=rounds)
    assert objective(state.params.astype(np.float64), s, L2) <= (1 + within) * best
