"""Generated problems, and their objective in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM
from lambdaml_core.testing.optimizer_laws.rows import Rows
from lambdaml_core.testing.optimizer_laws.training import Training
from lambdaml_lbfgs.optimizer import LBFGS
from lambdaml_lbfgs.options import LBFGSOptions

Array = NDArray[Any]

MODELS: dict[str, Model] = {
    "logistic": LogisticRegression(LinearOptions()),
    "squared hinge": SVM(SVMOptions(loss="squared_hinge")),
    "hinge": SVM(SVMOptions()),
    "least squares": LeastSquares(LinearOptions()),
}


class Trained(NamedTuple):
    params: Array
    figures: list[Any]
    reason: str


def problem(model: str, *, sparse: bool = False, rows: int = 2000, features: int = 30, classes: int = 2) -> Rows:
    """Columns differ a hundredfold in scale or frequency."""
    rng = np.random.default_rng(rows + features)
    x: Any = rng.standard_normal((rows, features))
    if sparse:
        x *= rng.random((rows, features)) < 0.2 * rng.random(features) ** 3 + 0.002
    else:
        x *= 10 ** rng.uniform(-1, 1, features)
    truth = rng.standard_normal((features, classes)) / np.maximum(x.std(axis=0), 1e-3)[:, None]
    margins = x @ truth / np.sqrt(features) + rng.gumbel(size=(rows, classes))
    y = margins[:, 0] if model == "least squares" else margins.argmax(axis=1)
    dense = np.ascontiguousarray(x, np.float32)
    return Rows(
        csr_matrix(dense) if sparse else dense, y.astype(np.float32), 0 if model == "least squares" else classes
    )


def train(model: str, rows: Rows, options: LBFGSOptions, *, rounds: int = 500, size: int = 1) -> Trained:
    """Through the trainer, the engine and a channel."""
    training = Training(LBFGS(options), MODELS[model], rows, rounds, len(rows), patience_s=30, size=size)
    told = training.run()
    return Trained(told[0].outcome.params, training.witnesses[0].figures, told[0].outcome.stop_reason)


def losses(model: str, margins: Array, y: Array) -> tuple[Array, Array]:
    """The loss of each row and its slope; margins (n, columns), slopes of the same shape."""
    if model == "least squares":
        wrong = margins - y[:, None]
        return wrong[:, 0] ** 2 / 2, wrong
    own = y.astype(int)[:, None] == np.arange(margins.shape[1]) if margins.shape[1] > 1 else y[:, None] == 1
    if model == "logistic" and margins.shape[1] > 1:
        logs = logsumexp(margins, axis=1)
        return logs - margins[own], np.exp(margins - logs[:, None]) - own
    signs = np.where(own, 1.0, -1.0)
    if model == "logistic":
        return np.logaddexp(0, -signs * margins)[:, 0], -signs / (1 + np.exp(signs * margins))
    slack = np.maximum(0, 1 - signs * margins)
    if model == "squared hinge":
        return (slack**2).sum(axis=1), -2 * signs * slack
    return slack.sum(axis=1), -signs * (slack > 0)


def objective(model: str, params: Array, rows: Rows, l1: float, l2: float) -> tuple[float, Array]:
    """F and, where l1 does not count, its gradient, in float64; parameters as the linear models have them."""
    features = rows.x.shape[1]
    columns = rows.classes if rows.classes > 2 else 1
    w, bias = np.split(params.astype(np.float64), [features * columns])
    x, y = rows.x.astype(np.float64), rows.y.astype(np.float64)
    each, slopes = losses(model, x @ w.reshape(features, columns) + bias, y)
    slopes = slopes / len(y)
    gradient = np.concatenate([(x.T @ slopes).ravel() + l2 * w, slopes.sum(axis=0)])
    return float(each.mean() + l1 * np.abs(w).sum() + l2 / 2 * (w @ w)), gradient
