"""Models whose start, predictions or figures break one law each; ``test_model_kit.py`` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from broken_models_base import BrokenClassifier, BrokenRegression, BrokenSVM, suites_of
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data

Array = NDArray[Any]


class AMatrixOfParameters(BrokenClassifier):
    law = "test_parameters_are_one_flat_array"

    def init(self, data: Data, rng: Generator) -> Array:
        return super().init(data, rng).reshape(data.features + 1, -1)


class PenalisesBeyondTheEnd(BrokenClassifier):
    law = "test_parameters_are_one_flat_array"

    def penalised(self, data: Data) -> slice:
        return slice(0, 10_000)


class StartsAnywhere(BrokenClassifier):
    law = "test_the_start_follows_from_rng_and_data_alone"
    mistake = "workers that start from different random models"

    def init(self, data: Data, rng: Generator) -> Array:
        start = super().init(data, rng)
        return np.random.standard_normal(start.size).astype(np.float32)


class StartsFurtherEachTime(BrokenClassifier):
    law = "test_the_start_follows_from_rng_and_data_alone"
    starts = 0

    def init(self, data: Data, rng: Generator) -> Array:
        self.starts += 1
        return super().init(data, rng) + np.float32(self.starts)


class TakesNumbersForClasses(BrokenSVM):
    law = "test_labels_that_are_not_for_it_are_refused"

    def _check_classes(self, classes: int) -> None:
        pass


class FailsForClassesInItsOwnWay(BrokenRegression):
    law = "test_labels_that_are_not_for_it_are_refused"

    def _check_classes(self, classes: int) -> None:
        if classes:
            raise ValueError("numbers only")


class PredictsAColumn(BrokenRegression):
    law = "test_predictions_have_the_promised_shape"

    def predict(self, params: Array, batch: Batch) -> Array:
        return super().predict(params, batch)[:, None]

    def score(self, params: Array, batch: Batch) -> Arrays:
        return BrokenRegression().score(params, batch)


class PredictsRanks(BrokenRegression):
    """What a row is taken for depends on the other rows."""

    law = "test_predictions_do_not_depend_on_the_batch"

    def predict(self, params: Array, batch: Batch) -> Array:
        margins = super().predict(params, batch)
        return margins - margins.mean() if batch.n else margins


class AveragesOverBatches(BrokenRegression):
    law = "test_totals_add_over_any_split_of_the_rows"
    mistake = "figures averaged over batches, their counts of rows ignored"

    def score(self, params: Array, batch: Batch) -> Arrays:
        totals = dict(super().score(params, batch))
        return {name: total / max(1, batch.n) if total.dtype.kind == "f" else total for name, total in totals.items()}

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        return super().metrics({**totals, "rows": np.minimum(totals["rows"], 1)})


class JudgesByTheSquare(BrokenRegression):
    law = "test_figures_are_those_of_loss_and_predictions"

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        return {**super().metrics(totals), "rmse": super().metrics(totals)["rmse"] ** 2}


class CountsWeightsInFigures(BrokenClassifier):
    law = "test_figures_are_those_of_loss_and_predictions"

    def score(self, params: Array, batch: Batch) -> Arrays:
        totals = dict(super().score(params, batch))
        totals["loss"] = np.array([self._total_loss(self.predict(params, batch), batch, batch.weights)])
        return totals


class HasNoBaseline(BrokenClassifier):
    law = "test_figures_are_those_of_loss_and_predictions"

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        return {name: value for name, value in super().metrics(totals).items() if name != "baseline_accuracy"}


class NothingIsZero(BrokenClassifier):
    law = "test_figures_without_meaning_are_nan"

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        return {name: float(np.nan_to_num(value)) for name, value in super().metrics(totals).items()}


class ExpOverflows(BrokenClassifier):
    law = "test_large_numbers_do_not_overflow"

    def probabilities(self, params: Array, batch: Batch) -> Array:
        margins = self.predict(params, batch).astype(np.float64)
        powers = np.exp(np.stack([0 * margins, margins], axis=1) if margins.ndim == 1 else margins)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class HidesDivergence(BrokenSVM):
    """Python's max(0, NaN) is 0."""

    law = "test_parameters_that_have_diverged_show_in_the_loss"

    def _hinge(self, margins: Array, y: Array) -> tuple[Array, Array]:
        return super()._hinge(np.nan_to_num(margins), y)

    def _total_loss(self, margins: Array, batch: Batch, weights: Array | None = None) -> float:
        return super()._total_loss(np.nan_to_num(margins), batch, weights)


class SwapsProbabilities(BrokenClassifier):
    law = "test_probabilities_add_to_one_and_agree_with_predict"

    def probabilities(self, params: Array, batch: Batch) -> Array:
        return super().probabilities(params, batch)[:, ::-1]


class ProbabilitiesInFloat32(BrokenClassifier):
    law = "test_probabilities_add_to_one_and_agree_with_predict"

    def probabilities(self, params: Array, batch: Batch) -> Array:
        return super().probabilities(params, batch).astype(np.float32)


class ScoresStoredCellsOnly(BrokenClassifier):
    law = "test_sparse_rows_are_scored_alike"

    def score(self, params: Array, batch: Batch) -> Arrays:
        if not isinstance(batch.x, np.ndarray):
            batch = batch._replace(y=np.zeros_like(batch.y))
        return super().score(params, batch)


globals().update(suites_of(__name__))
