"""Models whose losses and gradients break one law each; ``test_model_kit.py`` runs them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from broken_models_base import BrokenClassifier, BrokenRegression, BrokenSVM, suites_of
from numpy.typing import NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import Ready

Array = NDArray[Any]


class FollowsTheCrossEntropy(BrokenSVM):
    law = "test_the_gradient_is_the_slope_of_the_loss"
    mistake = "an SVM that follows the gradient of a cross-entropy"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        BrokenClassifier().loss_and_gradient(params, batch, out)
        return super().loss_and_gradient(params, batch, np.empty_like(out))


class NeverTrainsTheBias(BrokenClassifier):
    law = "test_the_gradient_is_the_slope_of_the_loss"
    mistake = "a bias that is never trained"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        out[batch.x.shape[1] * (params.size // (batch.x.shape[1] + 1)) :] = 0
        return loss


class HalvesTheSquareOnce(BrokenRegression):
    """The loss is the square, the gradient that of half of it."""

    law = "test_the_gradient_is_the_slope_of_the_loss"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        return 2 * super().loss_and_gradient(params, batch, out)


class ForgetsWeightsInTheLoss(BrokenClassifier):
    law = "test_the_gradient_is_the_slope_of_the_loss"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        super().loss_and_gradient(params, batch, out)
        return super().loss_and_gradient(params, batch._replace(weights=None), np.empty_like(out))


class SqueezesSingleRows(BrokenClassifier):
    law = "test_a_single_row_or_feature_is_enough"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        if batch.n == 1:
            out[:] = out.mean()
        return loss


class HingeOfZeroAndOne(BrokenSVM):
    """Class 0 has the sign 0: its loss is always 1, and nothing is learnt from it."""

    law = "test_following_the_gradient_teaches_every_label"
    mistake = "hinge loss fed labels 0 and 1"

    def _hinge(self, margins: Array, y: Array) -> tuple[Array, Array]:
        signs = y if margins.ndim == 1 else (np.arange(margins.shape[1]) == y[:, None]).astype(np.float32)
        slack = np.maximum(1 - signs * margins, 0)
        losses, slopes = slack, -signs * (slack > 0)
        return (losses if losses.ndim == 1 else losses.sum(axis=1)), slopes


class PredictsTheOpposite(BrokenRegression):
    law = "test_following_the_gradient_teaches_every_label"

    def predict(self, params: Array, batch: Batch) -> Array:
        return -super().predict(params, batch)


class Means(BrokenClassifier):
    """The mean over rows in place of the sum."""

    law = "test_losses_and_gradients_add_over_any_split_of_the_rows"
    mistake = "a mean where a sum is wanted"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out) / max(1, batch.n)
        out /= max(1, batch.n)
        return loss


class NormalisesTheBatch(BrokenClassifier):
    law = "test_losses_and_gradients_add_over_any_split_of_the_rows"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        if batch.n:
            batch = batch._replace(x=np.asarray(batch.x - batch.x.mean(axis=0), np.float32))
        return super().loss_and_gradient(params, batch, out)


class CountsLaterRowsMore(BrokenRegression):
    law = "test_the_order_of_rows_changes_nothing"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        weights = np.ones(batch.n, np.float32) if batch.weights is None else batch.weights
        later = weights * np.linspace(0.5, 1.5, batch.n, dtype=np.float32)
        return super().loss_and_gradient(params, batch._replace(weights=later), out)


class LeavesOutOfNoRows(BrokenClassifier):
    """Returns before it has written ``out``."""

    law = "test_no_rows_are_zeros"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        return super().loss_and_gradient(params, batch, out) if batch.n else 0.0


class HasALossOfNoRows(BrokenClassifier):
    law = "test_no_rows_are_zeros"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        return loss if batch.n else math.nan


class IgnoresWeights(BrokenSVM):
    law = "test_a_weight_of_two_is_the_row_twice"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        return super().loss_and_gradient(params, batch._replace(weights=None), out)


class TakesStoredZerosOnly(BrokenClassifier):
    """Computes only with what a sparse matrix holds, and forgets the bias of rows that hold nothing."""

    law = "test_dense_and_sparse_rows_agree"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        if not isinstance(batch.x, np.ndarray):
            batch = batch._replace(weights=(np.diff(batch.x.indptr) > 0).astype(np.float32))
        return super().loss_and_gradient(params, batch, out)


class ATensorForEachRow(BrokenRegression):
    law = "test_rows_are_not_taken_one_by_one"
    mistake = "one tensor for each sparse row"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        if isinstance(batch.x, np.ndarray):
            return super().loss_and_gradient(params, batch, out)
        loss, gradient = 0.0, np.zeros_like(out)
        for i in range(batch.n):
            row = Batch(batch.x[i].toarray(), batch.y[i : i + 1], 1, batch.weights)
            loss += super().loss_and_gradient(params, row, out)
            gradient += out
        out[:] = gradient
        return loss


class AddsIntoOut(BrokenClassifier):
    law = "test_out_is_written_wholly_and_nothing_else"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        gradient = np.empty_like(out)
        loss = super().loss_and_gradient(params, batch, gradient)
        out += gradient
        return loss


class CentresRowsInPlace(BrokenRegression):
    law = "test_out_is_written_wholly_and_nothing_else"

    def predict(self, params: Array, batch: Batch) -> Array:
        if batch.n:
            batch.x[:1] -= 1
        return super().predict(params, batch)


class Remembers(BrokenClassifier):
    """Keeps a running average of its gradients."""

    law = "test_calls_have_no_memory"

    def __init__(self) -> None:
        super().__init__()
        self._average: dict[int, Array] = {}

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        average = self._average.setdefault(out.size, out.copy())
        average *= 0.9
        average += 0.1 * out
        out[:] = average
        return loss


class AddsNoise(BrokenClassifier):
    law = "test_calls_have_no_memory"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        out += 1e-6 * np.random.standard_normal(out.size).astype(out.dtype)
        return loss


class SaysReadyTooSoon(BrokenClassifier):
    law = "test_ready_gives_each_element_once_and_final"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        out[:] = 0
        if ready is not None:
            ready(0, out.size)
        return super().loss_and_gradient(params, batch, out)


class SaysReadyTwice(BrokenClassifier):
    law = "test_ready_gives_each_element_once_and_final"

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        loss = super().loss_and_gradient(params, batch, out)
        if ready is not None:
            ready(0, out.size)
            ready(out.size - 1, out.size)
        return loss


globals().update(suites_of(__name__))
