"""The model contract: a differentiable loss over rows. It sees the data term only: penalties are the optimizer's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data

Ready = Callable[[int, int], None]
"""``ready(lo, hi)``: elements lo to hi of the gradient are final and may leave."""


class Model(Protocol):
    """Built as ``factory(options)``; holds no training state: parameters are always passed in.

    Parameters are one flat array. Losses and gradients are *sums* over rows, each times its weight, so that they add
    over batches and ranks and are divided once, by the true count of rows.
    """

    def penalised(self, data: Data) -> slice:
        """The part of the parameters that a penalty applies to; the bias is outside it."""

    def init(self, data: Data, rng: Generator) -> NDArray[Any]:
        """Fresh parameters, flat. Core gives those of rank 0 to all ranks.

        Raises:
            DataError: the model cannot learn from data with these classes.
        """

    def loss_and_gradient(
        self, params: NDArray[Any], batch: Batch, out: NDArray[Any], ready: Ready | None = None
    ) -> float:
        """Write the gradient, summed over rows, into ``out`` (shape and dtype of params); return the summed loss.

        Raises:
            NotSupported: the rows are sparse, and the model takes dense ones only.
        """

    def predict(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """What each row is taken for, as float.

        (n,) numbers, where those are learnt. For classes: (n,) the margin of class 1 against class 0, decided by its
        sign, or (n, classes) margins, decided by the largest. For groups that the model finds without labels: (n,)
        their numbers, int64.
        """

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        """Named totals that add over batches and ranks and suffice for :meth:`metrics`. Weights do not count here."""

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """Figures from added-up totals, NaN where one has no meaning. All have ``loss``, the mean over rows.

        Classifiers have ``accuracy``, ``baseline_accuracy`` (of the commonest class) and, for two classes, ``auc``;
        what learns numbers has ``rmse`` and ``r2``; what learns from rows alone has what it likes.
        """


def total_score(model: Model, params: NDArray[Any], batches: Iterable[Batch]) -> dict[str, NDArray[Any]]:
    """The totals of :meth:`Model.score` over batches, added in their order; arrays are fresh, and C-contiguous as a
    collective wants them. Nothing of no batches."""
    totals: dict[str, NDArray[Any]] = {}
    for batch in batches:
        for name, total in model.score(params, batch).items():
            if name in totals:
                totals[name] += total
            else:
                totals[name] = np.array(total, order="C")
    return totals


@runtime_checkable
class SupportsStatistics(Protocol):
    """A model that expectation maximisation trains: sums over rows suffice to move its parameters (Dempster, Laird and
    Rubin 1977)."""

    def totals(self, params: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Statistics of no rows: fresh zeros, C-contiguous, whose names, shapes and dtypes follow from the shape and
        dtype of ``params``."""

    def statistics(self, params: NDArray[Any], batches: Iterable[Batch], out: Arrays) -> None:
        """The E-step: add to ``out`` the sums over all rows of ``batches``, each row times its weight.

        It takes batches, and not one, so that what depends on the parameters alone is computed once for a pass.

        Raises:
            NotSupported: the rows are sparse, and the model takes dense ones only.
        """

    def maximise(self, params: NDArray[Any], totals: Arrays) -> Mapping[str, float]:
        """The M-step: change ``params`` in place to what is best given the statistics of all rows of all ranks.

        Returns:
            Figures, among them ``loss``, the mean over rows under the parameters as they were (NaN of no rows, which
            leave the parameters as they are), and ``moved``, how far the parameters have moved.
        """


@runtime_checkable
class SupportsProbabilities(Protocol):
    """A classifier that knows how sure it is."""

    def probabilities(self, params: NDArray[Any], batch: Batch) -> NDArray[Any]:
        """(n, classes) float64, rows adding to 1."""
