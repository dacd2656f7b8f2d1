"""What linear models of classes share: how right their margins are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError
from lambdaml_core.models.linear import Linear

# Margins are counted by the 13 leading bits of their float16 form. Steps are then relative (128 to each doubling), so
# that the AUC is as exact for a model whose margins are tiny as for one whose margins are large.
_FLOAT16_MAX = 65504.0
_DROPPED_BITS = 3
_HALF_BINS = 0x7C00 >> _DROPPED_BITS
_BINS = 2 * _HALF_BINS + 1


class LinearClassifier(Linear):
    """Class 1 is where the margin is positive; of more than two classes, the one with the largest margin."""

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        """Totals: ``loss`` (1,) float64, ``correct`` (1,) int64; ``margins`` (2, bins) uint32 or ``rows`` (k,) int64.

        For two classes ``margins`` counts the rows of class 0 and of class 1 by margin, in bins that rise with the
        margin. It takes 64 KB, and room for 4 billion rows in one bin. For more, ``rows`` counts those of each class.
        """
        margins = self.predict(params, batch)
        totals: dict[str, NDArray[Any]] = {"loss": np.array([self._total_loss(margins, batch)])}
        if margins.ndim == 1:
            counts = [np.bincount(_bin(margins[batch.y == c]), minlength=_BINS) for c in (0, 1)]
            totals["margins"] = np.array(counts, np.uint32)
            right = (margins > 0) == (batch.y > 0)
        else:
            classes = batch.y.astype(np.intp)
            totals["rows"] = np.bincount(classes, minlength=margins.shape[1])
            right = margins.argmax(axis=1) == classes
        totals["correct"] = np.array([np.count_nonzero(right)], np.int64)
        return totals

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """``loss`` (mean), ``accuracy``, ``baseline_accuracy`` (of the commonest class), ``auc`` for two classes.

        The AUC is the area under the ROC curve by the Mann-Whitney statistic, ties counted as half; rows in one bin
        count as ties. A figure is NaN where it has no meaning: the AUC of one class, and all of no rows.
        """
        rows = totals["margins"].sum(axis=1) if "margins" in totals else totals["rows"]
        count = float(rows.sum())
        figures = {
            "loss": ratio(float(totals["loss"][0]), count),
            "accuracy": ratio(float(totals["correct"][0]), count),
            "baseline_accuracy": ratio(float(rows.max()), count),
        }
        if "margins" in totals:
            negatives, positives = totals["margins"].astype(np.float64)
            below = np.cumsum(negatives) - negatives
            figures["auc"] = ratio(float(positives @ (below + negatives / 2)), float(rows[0]) * float(rows[1]))
        return figures

    def _check_classes(self, classes: int) -> None:
        if classes == 0:
            raise DataError(
                "the model tells classes apart, and the rows are labelled with numbers",
                hint="take the model least_squares, or partition the source with target = class",
            )
        if classes == 1:
            raise DataError(
                "the model tells classes apart, and all rows have the same label",
                hint="give data whose labels take at least two values",
            )


def ratio(part: float, whole: float) -> float:
    """part / whole, NaN where there is no whole."""
    return part / whole if whole else math.nan


def _bin(margin: NDArray[Any]) -> NDArray[Any]:
    """The bin of each margin, 0 to _BINS - 1, rising with it. NaN counts as 0: the loss shows it."""
    half = np.clip(np.nan_to_num(margin, nan=0.0), -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
    bits = half.view(np.int16).astype(np.int32)  # sign and magnitude, which is made an ordinary integer
    order = np.where(bits < 0, -(bits & 0x7FFF), bits)
    bins: NDArray[Any] = (order >> _DROPPED_BITS) + _HALF_BINS
    return bins
