"""The figures of classifiers, against scikit-learn's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits, load_svmlight_file
from sklearn.linear_model import LogisticRegression as Sklearn
from sklearn.metrics import accuracy_score, hinge_loss, log_loss, roc_auc_score

from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM

Array = NDArray[Any]
MODEL = LogisticRegression(LinearOptions())
IDENTITY = np.array([1, 0], np.float32)


def rows(margins: Any, labels: Any) -> Batch:
    """Rows whose margins are these under the parameters IDENTITY."""
    x = np.asarray(margins, np.float32)[:, None]
    return Batch(x, np.asarray(labels, np.float32), len(x))


def figures(margins: Any, labels: Any) -> dict[str, float]:
    return dict(MODEL.metrics(MODEL.score(IDENTITY, rows(margins, labels))))


def breast_cancer() -> tuple[Array, Array]:
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def census() -> tuple[Array, Array]:
    x, y = load_svmlight_file(str(CENSUS_INCOME))
    return x, (y > 0).astype(np.int64)


@pytest.fixture(scope="module", params=[breast_cancer, census])
def judged(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    """Margins of scikit-learn's model on real data, and the classes."""
    x, y = request.param()
    fitted = Sklearn(C=0.1, max_iter=1000).fit(x, y)
    return fitted.decision_function(x).astype(np.float32), y


@pytest.mark.parametrize("scale", [0.001, 1.0, 300.0])
def test_figures_are_scikit_learns_whatever_the_size_of_the_margins(judged: tuple[Array, Array], scale: float) -> None:
    margin, y = judged[0] * np.float32(scale), judged[1]
    got = figures(margin, y)
    # scikit-learn's log_loss clips probabilities, which matters to the largest margins.
    assert got["loss"] == pytest.approx(np.logaddexp(0, np.where(y, -1.0, 1.0) * margin).mean(), rel=1e-9)
    if scale == 1:
        assert got["loss"] == pytest.approx(log_loss(y, expit(margin.astype(np.float64))), rel=1e-6)
    assert got["accuracy"] == accuracy_score(y, margin > 0)
    assert got["auc"] == pytest.approx(roc_auc_score(y, margin), abs=1e-4)
    assert got["baseline_accuracy"] == max(y.mean(), 1 - y.mean())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-60, 60), st.booleans()), min_size=2, max_size=40))
def test_auc_is_exact_for_margins_two_hundredths_apart_and_ties_count_as_half(pairs: list[tuple[int, bool]]) -> None:
    labels = [label for _, label in pairs]
    margins = [math.copysign(0.1 * 1.02 ** abs(power), power) for power, _ in pairs]
    got = figures(margins, labels)["auc"]
    if len(set(labels)) == 1:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(roc_auc_score(labels, margins), abs=1e-12)


def test_margins_out_of_float16s_range_are_ranked_and_diverged_ones_show_in_the_loss() -> None:
    got = figures([-1e30, -1.0, 1.0, 1e30], [0, 0, 1, 1])
    assert got["auc"] == 1
    with np.errstate(invalid="ignore"):
        assert math.isnan(figures([math.nan, 1.0], [0, 1])["loss"])


@pytest.mark.parametrize("scale", [0.001, 1.0, 300.0])
def test_an_svms_margins_are_ranked_alike(judged: tuple[Array, Array], scale: float) -> None:
    margin, y = judged[0] * np.float32(scale), judged[1]
    svm = SVM(SVMOptions())
    got = svm.metrics(svm.score(IDENTITY, rows(margin, y)))
    assert got["loss"] == pytest.approx(hinge_loss(2 * y - 1, margin), rel=1e-6)
    assert got["accuracy"] == accuracy_score(y, margin > 0)
    assert got["auc"] == figures(margin, y)["auc"]


def test_figures_of_many_classes_are_scikit_learns() -> None:
    x, y = load_digits(return_X_y=True)
    x, y = x[:400] / 16, y[:400]
    fitted = Sklearn(C=0.1).fit(x, y)
    params = np.concatenate([fitted.coef_.T.ravel(), fitted.intercept_]).astype(np.float32)
    batch = Batch(x.astype(np.float32), y.astype(np.float32), len(y))
    got = MODEL.metrics(MODEL.score(params, batch))
    assert set(got) == {"loss", "accuracy", "baseline_accuracy"}
    assert got["loss"] == pytest.approx(log_loss(y, fitted.predict_proba(x)), rel=1e-6)
    assert got["accuracy"] == accuracy_score(y, fitted.predict(x)) > 0.9
    assert got["baseline_accuracy"] == np.bincount(y).max() / len(y)
    np.testing.assert_allclose(MODEL.probabilities(params, batch), fitted.predict_proba(x), rtol=1e-4, atol=1e-9)
    svm = SVM(SVMOptions())
    margins = fitted.decision_function(x)
    got = svm.metrics(svm.score(params, batch))
    one_vs_rest = sum(hinge_loss(np.where(y == c, 1, -1), margins[:, c]) for c in range(10))
    assert got["loss"] == pytest.approx(one_vs_rest, rel=1e-5)
    assert got["accuracy"] == accuracy_score(y, margins.argmax(axis=1))
