"""Logistic regression: sigmoid for two classes, softmax for more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.models.classes import LinearClassifier
from lambdaml_core.models.linear import total


class LogisticRegression(LinearClassifier):
    """The loss of a row is -log(probability of its class); the slope over a margin is probability - (0 or 1).

    For two classes the probability of class 1 is sigmoid(margin) = 1 / (1 + exp(-margin)); for more, that of class c
    is softmax(margins)[c] = exp(margins[c]) / sum of exp(margins).
    """

    def probabilities(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """(n, classes) float64, rows adding to 1."""
        margins = self.predict(params, batch).astype(np.float64)
        if margins.ndim == 1:
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(np.stack([margins, -margins], axis=1)))
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        probabilities: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def _loss_and_slopes(
        self, margins: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[float, NDArray[Any]]:
        if margins.ndim == 1:
            return _sigmoid(margins, y, weights)
        losses, slopes = _softmax(margins, y)
        return total(losses, weights), slopes

    def _losses(self, margins: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        margins = margins.astype(np.float64)
        if margins.ndim == 2:
            return _softmax(margins, y)[0]
        wrong = (1.0 - 2.0 * y) * margins
        losses: NDArray[Any] = np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))
        return losses


def _sigmoid(margins: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None) -> tuple[float, NDArray[Any]]:
    """As anybody would: 1 / (1 + exp(-margin)) - y. Where exp overflows that is right nevertheless.

    The loss reuses the terms: it is the sum of log(1 + exp(-margin)) + margin - y margin, which is accurate to some
    1e-7 of the margins.
    """
    minus = np.negative(margins, out=margins)
    terms = np.exp(minus)
    terms += 1
    slopes = 1 / terms
    slopes -= y
    np.log(terms, out=terms)
    terms -= minus
    weighted = y if weights is None else y * weights
    return max(total(terms, weights) + float(weighted.dot(minus)), 0.0), slopes


def _softmax(margins: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """With the largest margin of a row taken from all of them, exp cannot overflow and one term of the sum is 1."""
    rows, classes = np.arange(len(y)), y.astype(np.intp)
    margins -= margins.max(axis=1, keepdims=True)
    own = margins[rows, classes] + 0 * margins.min(initial=0)  # NaN where a margin of another class is infinite
    slopes = np.exp(margins, out=margins)
    sums = slopes.sum(axis=1)
    slopes /= sums[:, None]
    slopes[rows, classes] -= 1
    return np.log(sums) - own, slopes
