"""What only least squares has: numbers to learn, and figures of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from linear_reference import Case, data
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_squared_error, r2_score

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError
from lambdaml_core.models.base import SupportsProbabilities
from lambdaml_core.models.least_squares import LeastSquares

CASE = Case("squared", 0)
MODEL = LeastSquares(LinearOptions())


def figures(predicted: object, y: object) -> dict[str, float]:
    x = np.asarray(predicted, np.float32)[:, None]
    batch = Batch(x, np.asarray(y, np.float32), len(x))
    return dict(MODEL.metrics(MODEL.score(np.array([1, 0], np.float32), batch)))


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_classes_are_refused_with_the_remedy(classes: int) -> None:
    with pytest.raises(DataError, match="learns numbers") as caught:
        MODEL.init(data(4, classes), np.random.default_rng(0))
    assert "target = number" in str(caught.value.hint)
    assert "logistic_regression" in str(caught.value.hint)


@pytest.mark.parametrize("mean", [0.0, 1.0, -1e3, 1e5])
def test_figures_are_scikit_learns_whatever_the_mean(mean: float) -> None:
    rng = np.random.default_rng(0)
    y = (rng.standard_normal(5000) + mean).astype(np.float32)
    predicted = (y + rng.standard_normal(5000, np.float32) / 2).astype(np.float32)
    got = figures(predicted, y)
    squares = mean_squared_error(y.astype(np.float64), predicted.astype(np.float64))
    assert got["loss"] == pytest.approx(squares / 2, rel=1e-9)
    assert got["rmse"] == pytest.approx(math.sqrt(squares), rel=1e-9)
    assert got["r2"] == pytest.approx(r2_score(y.astype(np.float64), predicted.astype(np.float64)), abs=1e-3)


def test_figures_of_real_rows() -> None:
    x, y = load_diabetes(return_X_y=True)
    weights = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0].astype(np.float32)
    batch = Batch(x.astype(np.float32), y.astype(np.float32), len(y))
    got = MODEL.metrics(MODEL.score(weights, batch))
    assert got["r2"] == pytest.approx(r2_score(y, np.c_[x, np.ones(len(x))] @ weights), rel=1e-6)
    assert got["rmse"] == pytest.approx(math.sqrt(2 * got["loss"]), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -12345.678])  # of 777 times 0.1 the sums differ by rounding
def test_numbers_that_are_all_the_same_have_no_r2(value: float) -> None:
    got = figures([value + 1] * 777, [value] * 777)
    assert math.isnan(got["r2"])
    assert got["rmse"] == pytest.approx(1, rel=1e-3)


def test_predictions_that_are_not_finite_show_in_the_loss_without_a_warning() -> None:
    got = figures([math.inf, 1.0], [0.0, 2.0])
    assert not math.isfinite(got["loss"])


def test_numbers_have_no_probabilities() -> None:
    assert not isinstance(MODEL, SupportsProbabilities)
