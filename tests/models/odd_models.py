"""Correct models of unusual shape; ``test_model_kit.py`` runs them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.errors import DataError, NotSupported
from lambdaml_core.models.base import Model, Ready
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.testing.model import ModelLaws

Array = NDArray[Any]


class Network:
    """Two layers, tanh between them, trained in memory of its own, from which ``init`` gives a view; dense rows only.

    For two classes it has two margins a row. ``ready`` is called layer by layer, the last one first.
    """

    def __init__(self, hidden: int = 4) -> None:
        self._hidden = hidden
        self._memory = np.zeros(0, np.float32)

    def penalised(self, data: Data) -> slice:
        return slice(self._hidden, self._hidden * (1 + data.features))

    def init(self, data: Data, rng: Generator) -> Array:
        if data.classes < 2:
            raise DataError("the network tells classes apart")
        size = self._hidden * (1 + data.features + data.classes)
        self._memory = rng.standard_normal(size + 8).astype(np.float32)
        return self._memory[8:]

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        first = self._hidden * (1 + batch.x.shape[1]) if isinstance(batch.x, np.ndarray) else 0
        hidden, margins = self._forward(params, batch)
        weights = np.ones(batch.n, np.float32) if batch.weights is None else batch.weights
        margins = margins - margins.max(axis=1, keepdims=True)
        sums = np.exp(margins).sum(axis=1)
        own = (np.arange(batch.n), batch.y.astype(np.intp))
        loss = float(((np.log(sums) - margins[own]) * weights).sum())
        slopes = np.exp(margins) / sums[:, None]
        slopes[own] -= 1
        slopes *= weights[:, None]
        out[first:] = (hidden.T @ slopes).ravel()
        if ready is not None:
            ready(first, out.size)
        back = (slopes @ params[first:].reshape(self._hidden, -1).T) * (1 - hidden**2)
        out[self._hidden : first] = (batch.x.T @ back).ravel()
        out[: self._hidden] = back.sum(axis=0)
        if ready is not None:
            ready(self._hidden, first)
            ready(0, self._hidden)
        return loss

    def predict(self, params: Array, batch: Batch) -> Array:
        return self._forward(params, batch)[1]

    def score(self, params: Array, batch: Batch) -> Arrays:
        margins, y = self.predict(params, batch).astype(np.float64), batch.y.astype(np.intp)
        loss = np.logaddexp.reduce(margins, axis=1) - margins[np.arange(batch.n), y]
        right = margins[margins.argmax(axis=1) == y]
        counts = np.bincount(y, minlength=margins.shape[1])
        totals: dict[str, Array] = {"loss": np.array([loss.sum()]), "right": np.array([len(right)]), "rows": counts}
        if margins.shape[1] == 2:
            surer = np.nan_to_num(margins[:, 1] - margins[:, 0])
            at = np.clip(surer * 200 + 2000, 0, 4000).astype(np.intp)
            totals["ranks"] = np.array([np.bincount(at[y == c], minlength=4001) for c in (0, 1)])
        return totals

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        rows = float(totals["rows"].sum())
        if not rows:
            return dict.fromkeys(["loss", "accuracy", "baseline_accuracy", *(["auc"] * ("ranks" in totals))], math.nan)
        found = {
            "loss": float(totals["loss"][0]) / rows,
            "accuracy": float(totals["right"][0]) / rows,
            "baseline_accuracy": float(totals["rows"].max()) / rows,
        }
        if "ranks" in totals:
            negatives, positives = totals["ranks"].astype(np.float64)
            pairs = float(negatives.sum() * positives.sum())
            below = np.cumsum(negatives) - negatives / 2
            found["auc"] = float(positives @ below) / pairs if pairs else math.nan
        return found

    def _forward(self, params: Array, batch: Batch) -> tuple[Array, Array]:
        if not isinstance(batch.x, np.ndarray):
            raise NotSupported("the network takes dense rows only")
        first = self._hidden * (1 + batch.x.shape[1])
        inner = params[self._hidden : first].reshape(-1, self._hidden)
        hidden: Array = np.tanh(batch.x @ inner + params[: self._hidden])
        return hidden, hidden @ params[first:].reshape(self._hidden, -1)


class InFloat64(LogisticRegression):
    def init(self, data: Data, rng: Generator) -> Array:
        return super().init(data, rng).astype(np.float64)


class Quantile:
    """Numbers by the pinball loss, which has a kink at every row; says ``ready`` once at the end."""

    def penalised(self, data: Data) -> slice:
        return slice(1, None)

    def init(self, data: Data, rng: Generator) -> Array:
        if data.classes:
            raise DataError("numbers are needed")
        return np.zeros(1 + data.features, np.float32)

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        wrong = self.predict(params, batch) - batch.y
        slopes = np.where(wrong > 0, np.float32(0.4), np.float32(-0.6))
        weights = np.ones(batch.n, np.float32) if batch.weights is None else batch.weights
        out[0], out[1:] = (slopes * weights).sum(), batch.x.T @ (slopes * weights)
        if ready is not None:
            ready(0, out.size)
        return float((slopes * wrong * weights).sum())

    def predict(self, params: Array, batch: Batch) -> Array:
        return np.asarray(batch.x @ params[1:] + params[0])

    def score(self, params: Array, batch: Batch) -> Arrays:
        y, wrong = batch.y.astype(np.float64), self.predict(params, batch).astype(np.float64) - batch.y
        loss = np.where(wrong > 0, 0.4, -0.6) * wrong
        return {"sums": np.array([batch.n, loss.sum(), wrong @ wrong, y.sum(), y @ y])}

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        n, loss, squares, y, y2 = totals["sums"].tolist()
        if not n:
            return dict.fromkeys(("loss", "rmse", "r2"), math.nan)
        spread = y2 - y * y / n
        r2 = 1 - squares / spread if spread > 1e-12 * y2 else math.nan
        return {"loss": loss / n, "rmse": math.sqrt(squares / n), "r2": r2}


class TestNetwork(ModelLaws):
    @pytest.fixture
    def model(self) -> Model:
        return Network()


class TestInFloat64(ModelLaws):
    features = 1

    @pytest.fixture
    def model(self) -> Model:
        return InFloat64(LinearOptions())


class TestQuantile(ModelLaws):
    target = "number"

    @pytest.fixture
    def model(self) -> Model:
        return Quantile()
