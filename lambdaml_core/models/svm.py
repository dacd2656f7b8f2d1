"""The linear support vector machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import SVMOptions
from lambdaml_core.models.classes import LinearClassifier
from lambdaml_core.models.linear import total


class SVM(LinearClassifier):
    """Hinge loss max(0, 1 - s margin), or its square; s is +1 for rows of the class and -1 for others.

    For two classes, s is +1 for class 1. For more there is a column for each class against the rest, and the loss of a
    row is the sum over them: k problems are solved in one pass, and none sees another.
    """

    def __init__(self, options: SVMOptions) -> None:
        super().__init__(options)
        self._squared = options.loss == "squared_hinge"

    def _loss_and_slopes(
        self, margins: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[float, NDArray[Any]]:
        losses, slopes = self._hinge(margins, y)
        return total(losses, weights), slopes

    def _losses(self, margins: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return self._hinge(margins.astype(np.float64), y)[0]

    def _hinge(self, margins: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        signs = _signs(margins, y)
        slack = 1 - signs * margins
        np.maximum(slack, 0, out=slack)
        slack += 0 * margins  # NaN where a margin is infinite, although it may be on the right side
        if self._squared:
            losses, slopes = slack * slack, -2 * signs * slack
        else:
            losses, slopes = slack, -signs * (slack > 0)
        return (losses if losses.ndim == 1 else losses.sum(axis=1)), slopes


def _signs(margins: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """+1 and -1 in the shape and dtype of margins."""
    if margins.ndim == 1:
        return (2 * y - 1).astype(margins.dtype, copy=False)
    signs = np.full_like(margins, -1)
    signs[np.arange(len(y)), y.astype(np.intp)] = 1
    return signs
