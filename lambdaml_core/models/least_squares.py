"""Linear regression by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError
from lambdaml_core.models.linear import Linear, total

_LEAST_SPREAD = 1e-12  # variance over mean square below which the difference of two float64 sums says nothing


class LeastSquares(Linear):
    """The loss of a row is half the square of (margin - y); what it predicts is the margin."""

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        """Totals, all (1,): ``rows`` int64; float64 ``loss``, and ``sum`` and ``sum_squares`` of y."""
        y = batch.y.astype(np.float64)
        return {
            "rows": np.array([batch.n], np.int64),
            "loss": np.array([self._total_loss(self.predict(params, batch), batch)]),
            "sum": np.array([y.sum()]),
            "sum_squares": np.array([y @ y]),
        }

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """``loss`` (mean), ``rmse`` (root of the mean square), ``r2`` (share of the variance of y that is explained).

        The variance comes from the sums of y and of its squares, which loses digits where y is nearly constant: r2 is
        NaN where y varies by less than a millionth of its mean (float32 itself has steps of a tenth of that).
        """
        rows = float(totals["rows"][0])
        loss, total, squares = (float(totals[name][0]) for name in ("loss", "sum", "sum_squares"))
        if not rows:
            return dict.fromkeys(("loss", "rmse", "r2"), math.nan)
        spread = squares - total * total / rows
        return {
            "loss": loss / rows,
            "rmse": math.sqrt(2 * loss / rows),
            "r2": 1 - 2 * loss / spread if spread > _LEAST_SPREAD * squares else math.nan,
        }

    def _check_classes(self, classes: int) -> None:
        if classes:
            raise DataError(
                f"least_squares learns numbers, and the rows are labelled with {classes} classes",
                hint="partition the source with target = number, or take logistic_regression or svm",
            )

    def _loss_and_slopes(
        self, margins: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None
    ) -> tuple[float, NDArray[Any]]:
        wrong = np.subtract(margins, y, out=margins)
        return total(wrong * wrong, weights) / 2, wrong

    def _losses(self, margins: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        losses: NDArray[Any] = np.square(margins.astype(np.float64) - y) / 2
        return losses
