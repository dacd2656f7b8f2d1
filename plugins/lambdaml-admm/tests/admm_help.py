"""Problems, ranks that solve them, and F of what they come to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_admm.optimizer import ADMM
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM
from lambdaml_core.testing.optimizer import Rows
from lambdaml_core.testing.optimizer_laws.training import Training

Array = NDArray[Any]

MODELS: dict[str, Model] = {
    "logistic": LogisticRegression(LinearOptions()),
    "squared hinge": SVM(SVMOptions(loss="squared_hinge")),
    "hinge": SVM(SVMOptions()),
    "least squares": LeastSquares(LinearOptions()),
}


def problem(model: str, *, rows: int = 300, features: int = 12, seed: int = 0) -> Rows:
    """Features of unequal scale that are correlated, of which every third says nothing, and labels with noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)) @ (np.eye(features) + 0.2 * rng.standard_normal((features, features)))
    x *= np.geomspace(0.3, 3, features)
    margins = x @ np.where(np.arange(features) % 3 == 2, 0, rng.standard_normal(features)) + 0.7
    if model == "least squares":
        return Rows(x.astype(np.float32), (margins + rng.standard_normal(rows)).astype(np.float32), classes=0)
    return Rows(x.astype(np.float32), (margins + 2 * rng.logistic(size=rows) > 0).astype(np.float32))


def sparse_problem(model: str, *, rows: int = 400, features: int = 60, seed: int = 0) -> Rows:
    """One-hot columns beside others, as tables have them: some features are rare."""
    rng = np.random.default_rng(seed)
    x = (rng.random((rows, features)) < np.geomspace(0.5, 0.02, features)).astype(np.float32)
    x[:, : features // 4] *= rng.random((rows, features // 4), np.float32)
    margins = x @ rng.standard_normal(features) - 0.5
    y = margins + rng.standard_normal(rows) if model == "least squares" else margins + rng.logistic(size=rows) > 0
    return Rows(x, y.astype(np.float32), classes=0 if model == "least squares" else 2).sparse()


def ranks(
    rows: Rows, model: str, options: ADMMOptions, *, size: int, rounds: int, cuts: list[int] | None = None
) -> Training:
    """Train to the end, on this many ranks; ``cuts`` are the rows that their shares end at."""
    shares = None if cuts is None else rows.cut(cuts, steps=1)
    training = Training(
        ADMM(options), MODELS[model], rows, rounds, batch_size=100, patience_s=60.0, size=size, shares=shares
    )
    training.run()
    return training


def solution(training: Training) -> Array:
    """The parameters in the end, float32, weights and then the bias."""
    return training.witnesses[0].states[-1].params


def losses(model: str, margins: Array, y: Array) -> Array:
    """Of each row; float64."""
    if model == "least squares":
        return np.asarray(np.square(margins - y) / 2)
    wrong = np.where(y > 0, -1.0, 1.0) * margins
    if model == "logistic":
        return np.asarray(np.logaddexp(0, wrong))
    slack = np.maximum(0, 1 + wrong)
    return np.asarray(slack**2 if model == "squared hinge" else slack)


def objective(model: str, params: Array, rows: Rows, *, l1: float = 0.0, l2: float = 0.0) -> float:
    """F, in float64."""
    w, b = params[:-1].astype(np.float64), float(params[-1])
    margins = np.asarray(rows.x.astype(np.float64) @ w) + b
    return float(losses(model, margins, rows.y).mean() + l1 * np.abs(w).sum() + l2 / 2 * (w @ w))
