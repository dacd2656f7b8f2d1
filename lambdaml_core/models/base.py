"""The model contract: a differentiable loss over rows. It sees the data term only: penalties are the optimizer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data

Ready = Callable[[int, int], None]
"""``ready(lo, hi)``: elements lo to hi of the gradient are final and may leave."""


class Model(Protocol):
    """Built as ``factory(options)``; holds no training state: parameters are always passed in.

    Parameters are one flat array. Losses and gradients are *sums* over rows, so that they add over batches and ranks
    and are divided once, by the true count.
    """

    @property
    def penalised(self) -> slice:
        """The part of the parameters that a penalty applies to; the bias is outside it."""

    def init(self, data: Data, rng: Generator) -> NDArray[Any]:
        """Fresh parameters, flat; equal on all ranks because data's dimensions and rng are."""

    def loss_and_gradient(
        self, params: NDArray[Any], batch: Batch, out: NDArray[Any], ready: Ready | None = None
    ) -> float:
        """Write the gradient, summed over rows, into ``out`` (shape and dtype of params); return the summed loss."""

    def predict(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """Predictions for each row; for a classifier the probabilities, (n,) of class 1 or (n, classes)."""

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        """Named totals that add over batches and ranks and suffice for :meth:`metrics`."""

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """Figures from added-up totals; a classifier has ``loss``, ``accuracy``, ``auc``, ``baseline_accuracy``."""
