"""What linear models share: margins, gradients of them, and how their parameters lie in one array."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.models.base import Ready


class Linear(ABC):
    """A loss of margins; margin = x @ weights + bias.

    There is one column of margins for numbers and for two classes, and one for each of more classes. Parameters are
    float32 and flat: the weights as (features, columns) row by row, then the biases (columns,) if there are any. The
    number of columns follows from their size, so that a model holds nothing but its options.

    Rows may be a C-contiguous ndarray or a scipy CSR matrix: both know ``x @ w`` and ``x.T @ r``, so there is one
    implementation, and scipy is never imported for dense data.
    """

    def __init__(self, options: LinearOptions) -> None:
        self._bias = options.bias

    def penalised(self, data: Data) -> slice:
        """The weights without the biases."""
        return slice(0, data.features * _columns(data))

    def init(self, data: Data, rng: Generator) -> NDArray[Any]:
        """Zeros, float32, shape ((features + bias) * columns,). The loss is convex: any start will do.

        Raises:
            DataError: the model cannot learn from what the rows are labelled with.
        """
        self._check_classes(data.classes)
        return np.zeros((data.features + self._bias) * _columns(data), np.float32)

    def loss_and_gradient(
        self, params: NDArray[Any], batch: Batch, out: NDArray[Any], ready: Ready | None = None
    ) -> float:
        """Sum of the rows' losses, each times its weight; its gradient into ``out``. All is computed in float32.

        A loss that overflows float32 is computed once more in float64. One that is still not finite means that the
        parameters have diverged; a margin that is not finite makes it NaN, whichever side it is on.
        """
        weights, bias = self._split(params, batch)
        with np.errstate(over="ignore", invalid="ignore"):
            loss, slopes = self._loss_and_slopes(_margins(weights, bias, batch), batch.y, batch.weights)
            if batch.weights is not None:
                slopes.T[...] *= batch.weights
            weights, bias = self._split(out, batch)
            weights[...] = _transposed(batch.x) @ slopes
            if bias.size:
                bias[...] = np.add.reduce(slopes)
        return loss if math.isfinite(loss) else self._total_loss(self.predict(params, batch), batch, batch.weights)

    def predict(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """The margins, float32: (n,), or (n, classes) for more than two classes."""
        with np.errstate(over="ignore", invalid="ignore"):  # parameters that have diverged: the loss tells
            return _margins(*self._split(params, batch), batch)

    @abstractmethod
    def _check_classes(self, classes: int) -> None:
        """Refuse data with so many classes if the model cannot learn from it; 0 is numbers."""

    @abstractmethod
    def _loss_and_slopes(
        self, margins: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[float, NDArray[Any]]:
        """The weighted sum of losses, and the slopes of the rows' losses, not weighted, in the shape of margins.

        May overwrite the margins. If they are not all finite, the loss is not finite either.
        """

    @abstractmethod
    def _losses(self, margins: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """The loss of each row, (n,), computed in float64 in a way that no float32 margin overflows."""

    def _total_loss(self, margins: NDArray[Any], batch: Batch, weights: NDArray[Any] | None = None) -> float:
        """The sum of the rows' losses, each times its weight, in float64; NaN where a margin is not finite."""
        if not np.isfinite(margins).all():
            return math.nan
        losses = self._losses(margins, batch.y)
        return float((losses if weights is None else losses * weights).sum())

    def _split(self, params: NDArray[Any], batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
        """Views of weights and biases: (features,) and (1,), or (features, columns) and (columns,)."""
        features = batch.x.shape[1]
        columns = params.size // (features + self._bias)
        weights, bias = params[: features * columns], params[features * columns :]
        return (weights if columns == 1 else weights.reshape(features, columns)), bias


def total(losses: NDArray[Any], weights: NDArray[Any] | None) -> float:
    """The sum of losses, (n,), each times its weight."""
    return float(np.add.reduce(losses) if weights is None else weights.dot(losses))


def _margins(weights: NDArray[Any], bias: NDArray[Any], batch: Batch) -> NDArray[Any]:
    """In Fortran's order: numpy folds the columns of a row ten times as fast where the rows lie side by side."""
    margins: NDArray[Any] = np.asfortranarray(batch.x @ weights)
    if bias.size:
        margins += bias
    return margins


def _transposed(x: Any) -> Any:
    """``x.T``, a view. scipy's own copies values that are a part of a larger array, as those of a batch are."""
    if isinstance(x, np.ndarray):
        return x.T
    from scipy.sparse import csc_matrix

    transposed: Any = csc_matrix((x.shape[1], x.shape[0]))
    transposed.data, transposed.indices, transposed.indptr = x.data, x.indices, x.indptr
    return transposed


def _columns(data: Data) -> int:
    return data.classes if data.classes > 2 else 1
