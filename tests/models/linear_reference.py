"""All linear models, rows for them, and their losses as scikit-learn and torch say them, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, random_array
from scipy.special import expit, softmax
from sklearn.metrics import hinge_loss, log_loss, mean_squared_error

from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A model and the kind of labels that it gets: so many classes, or numbers (0)."""

    loss: str
    classes: int

    def __str__(self) -> str:
        return f"{self.loss}-{self.classes}"

    @property
    def columns(self) -> int:
        return self.classes if self.classes > 2 else 1

    def model(self, *, bias: bool = True) -> Model:
        if self.loss == "log":
            return LogisticRegression(LinearOptions(bias=bias))
        if self.loss == "squared":
            return LeastSquares(LinearOptions(bias=bias))
        return SVM(SVMOptions(bias=bias, loss=self.loss))

    def params(self, features: int = 6, *, bias: bool = True, seed: int = 1) -> Array:
        return np.random.default_rng(seed).standard_normal((features + bias) * self.columns, np.float32)

    def rows(self, n: int, features: int = 6, *, sparse: bool = False, seed: int = 0) -> Batch:
        rng = np.random.default_rng(seed)
        if sparse:
            x: Any = csr_matrix(random_array((n, features), density=0.3, rng=rng, dtype=np.float32))
        else:
            x = rng.standard_normal((n, features), np.float32)
        y = rng.integers(0, self.classes, n) if self.classes else 3 * rng.standard_normal(n)
        return Batch(x, y.astype(np.float32), n)


CASES = (
    Case("log", 2),
    Case("log", 4),
    Case("hinge", 2),
    Case("hinge", 3),
    Case("squared_hinge", 2),
    Case("squared_hinge", 3),
    Case("squared", 0),
)
CLASSIFIERS = tuple(case for case in CASES if case.classes)


def data(features: int, classes: int) -> Data:
    """As much of data as a model looks at before it sees rows."""
    return cast(Data, SimpleNamespace(features=features, classes=classes))


def loss_and_gradient(case: Case, params: Array, batch: Batch, *, bias: bool = True) -> tuple[float, Array]:
    out = np.full_like(params, np.nan)
    return case.model(bias=bias).loss_and_gradient(params, batch, out), out


def margins_of(case: Case, params: Array, batch: Batch, bias: bool) -> Array:
    """(n, columns) float64, by the layout that models promise: weights (features, columns), then biases."""
    table = params.astype(np.float64).reshape(-1, case.columns)
    margins: Array = batch.x @ (table[:-1] if bias else table) + (table[-1] if bias else 0.0)
    return margins


def reference_loss(params: Array, case: Case, batch: Batch, bias: bool) -> float:
    """The weighted sum of losses by scikit-learn's metrics; numpy's where it has none."""
    margins, y = margins_of(case, params, batch, bias), batch.y
    weights = np.ones(batch.n) if batch.weights is None else batch.weights.astype(np.float64)
    if case.loss == "squared":
        return float(mean_squared_error(y, margins[:, 0], sample_weight=weights) / 2 * weights.sum())
    if case.loss == "log":
        chances = softmax(margins, axis=1) if case.columns > 1 else expit(margins[:, 0])
        return float(log_loss(y, chances, normalize=False, sample_weight=weights, labels=range(case.classes)))
    total = 0.0
    for c in range(case.columns):
        signs = np.where(y == (c if case.columns > 1 else 1), 1, -1)
        if case.loss == "hinge":
            total += hinge_loss(signs, margins[:, c], labels=[-1, 1], sample_weight=weights) * weights.sum()
        else:
            total += weights @ np.maximum(0, 1 - signs * margins[:, c]) ** 2
    return float(total)


def torch_gradient(params: Array, case: Case, batch: Batch, bias: bool) -> Array:
    """The gradient of the same loss, by torch's own losses and automatic differentiation."""
    p = torch.tensor(params, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(batch.x if isinstance(batch.x, np.ndarray) else batch.x.toarray(), dtype=torch.float64)
    y = torch.tensor(batch.y, dtype=torch.float64)
    weights = torch.ones_like(y) if batch.weights is None else torch.tensor(batch.weights, dtype=torch.float64)
    table = p.reshape(-1, case.columns)
    margins = x @ table[:-1] + table[-1] if bias else x @ table
    f = torch.nn.functional
    if case.loss == "squared":
        losses = (margins[:, 0] - y) ** 2 / 2
    elif case.loss == "log" and case.columns > 1:
        losses = f.cross_entropy(margins, y.long(), reduction="none")
    elif case.loss == "log":
        losses = f.binary_cross_entropy_with_logits(margins[:, 0], y, reduction="none")
    else:
        own = f.one_hot(y.long(), case.columns) if case.columns > 1 else y[:, None]
        slack = torch.relu(1 - (2 * own - 1) * margins)
        losses = (slack if case.loss == "hinge" else slack**2).sum(dim=1)
    (weights * losses).sum().backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    return p.grad.numpy()
