"""Binary logistic regression on dense or sparse rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.errors import DataError
from lambdaml_core.models.base import Ready

# Margins are counted by the 13 leading bits of their float16 form. Steps are then relative (128 to each doubling), so
# that the AUC is as exact for a model whose margins are tiny as for one whose margins are large.
_FLOAT16_MAX = 65504.0
_DROPPED_BITS = 3
_HALF_BINS = 0x7C00 >> _DROPPED_BITS
_BINS = 2 * _HALF_BINS + 1


class LogisticRegression:
    """The probability of class 1 is sigmoid(margin), margin = x @ weights + bias.

    Parameters are float32: one weight per feature, then the bias if there is one. The loss of a row is
    log(1 + exp(-margin)) for class 1 and log(1 + exp(margin)) for class 0; its gradient with respect to the margin is
    probability - class.

    Rows may be a C-contiguous ndarray or a scipy CSR matrix: both know ``x @ w`` and ``x.T @ r``, so there is one
    implementation, and scipy is never imported for dense data.
    """

    def __init__(self, options: LinearOptions) -> None:
        self._bias = options.bias
        self._weights = slice(0, -1) if options.bias else slice(None)

    def penalised(self, data: Data) -> slice:
        """The weights without the bias."""
        return self._weights

    def init(self, data: Data, rng: Generator) -> NDArray[Any]:
        """Zeros, float32, shape (features + 1,) or without a bias (features,). The loss is convex: any start will do.

        Raises:
            DataError: the data has not exactly two classes.
        """
        if data.classes != 2:
            raise DataError(
                f"logistic_regression needs two classes, and the data has {data.classes}",
                hint="give data whose labels take two values",
            )
        return np.zeros(data.features + self._bias, np.float32)

    def loss_and_gradient(
        self, params: NDArray[Any], batch: Batch, out: NDArray[Any], ready: Ready | None = None
    ) -> float:
        """Sum of log losses; its gradient into ``out``.

        All is computed in float32, the gradient as anybody would: x.T @ (1 / (1 + exp(-margin)) - y). Where exp
        overflows, that is right nevertheless: the probability is 0. The loss reuses its terms, as the sum of
        log(1 + exp(-margin)) + margin - y margin, which is accurate to some 1e-7 of the margins; if a term is infinite,
        the loss is computed once more in a form that cannot overflow. A loss that is still not finite means that the
        parameters have diverged.
        """
        y = batch.y
        with np.errstate(over="ignore", invalid="ignore"):
            minus = self._margin(-params, batch)
            terms = np.exp(minus)
            terms += 1
            residual = 1 / terms
            residual -= y
            np.log(terms, out=terms)
            terms -= minus
            loss = float(np.add.reduce(terms) + y.dot(minus))
            if not math.isfinite(loss):
                loss = float(np.add.reduce(_log_losses(-minus, y)))
            out[self._weights] = batch.x.T @ residual
            if self._bias:
                out[-1] = np.add.reduce(residual)
        return max(loss, 0.0)

    def predict(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """Probability of class 1, (n,) float64."""
        with np.errstate(over="ignore"):
            probability: NDArray[Any] = 1 / (1 + np.exp(-self._margin(params, batch).astype(np.float64)))
        return probability

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        """Totals: ``log_loss`` (1,) float64, ``correct`` (1,) int64, ``margins`` (2, bins) uint32.

        ``margins`` counts the rows of class 0 and of class 1 by margin, in bins that rise with the margin. It takes
        64 KB, and room for 4 billion rows in one bin.
        """
        margin = self._margin(params, batch)
        counts = [np.bincount(_bin(margin[batch.y == c]), minlength=_BINS) for c in (0, 1)]
        return {
            "log_loss": np.array([_log_losses(margin, batch.y).sum()], np.float64),
            "correct": np.array([np.count_nonzero((margin > 0) == (batch.y > 0))], np.int64),
            "margins": np.array(counts, np.uint32),
        }

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """``loss`` (mean log loss), ``accuracy``, ``auc``, ``baseline_accuracy`` (that of the larger class).

        The AUC is the area under the ROC curve by the Mann-Whitney statistic, ties counted as half; rows in one bin
        count as ties. A figure is NaN where it has no meaning: the AUC of one class, and all of no rows.
        """
        negatives, positives = totals["margins"].astype(np.float64)
        n0, n1 = float(negatives.sum()), float(positives.sum())
        below = np.cumsum(negatives) - negatives
        return {
            "loss": _ratio(float(totals["log_loss"][0]), n0 + n1),
            "accuracy": _ratio(float(totals["correct"][0]), n0 + n1),
            "auc": _ratio(float(positives @ (below + negatives / 2)), n0 * n1),
            "baseline_accuracy": _ratio(max(n0, n1), n0 + n1),
        }

    def _margin(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):  # parameters that have diverged: the loss tells
            margin: NDArray[Any] = batch.x @ params[self._weights]
            if self._bias:
                margin += params[-1]
        return margin


def _log_losses(margin: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """log(1 + exp(-margin)) for class 1, log(1 + exp(margin)) for class 0, each row, in float64. Cannot overflow."""
    wrong = (1.0 - 2.0 * y) * margin.astype(np.float64)
    losses: NDArray[Any] = np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))
    return losses


def _bin(margin: NDArray[Any]) -> NDArray[Any]:
    """The bin of each margin, 0 to _BINS - 1, rising with it. NaN counts as 0: the loss shows it."""
    half = np.clip(np.nan_to_num(margin, nan=0.0), -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
    bits = half.view(np.int16).astype(np.int32)  # sign and magnitude, which is made an ordinary integer
    order = np.where(bits < 0, -(bits & 0x7FFF), bits)
    bins: NDArray[Any] = (order >> _DROPPED_BITS) + _HALF_BINS
    return bins


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
