"""At scikit-learn's optimum of mean loss + (l2 / 2) ||w||^2 the gradient of ours is zero: the objectives are the same.

The bias is not penalised. In scikit-learn's terms C = 1 / (l2 N), and alpha = l2 N for ridge regression.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from linear_reference import Case, data, loss_and_gradient
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_svmlight_file, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC, LinearSVC

from lambdaml_core.data.base import Batch
from lambdaml_core.data.samples import CENSUS_INCOME

Array = NDArray[Any]
L2 = 1e-4


def standardised(load: Any) -> tuple[Array, Array]:
    x, y = load(return_X_y=True)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y


def census() -> tuple[Any, Array]:
    x, y = load_svmlight_file(str(CENSUS_INCOME), dtype=np.float32)
    return x[:4000], (y[:4000] > 0).astype(np.int64)


def flat(fitted: Any, *, bias: bool = True) -> Array:
    """scikit-learn's parameters in our order."""
    weights = np.atleast_2d(fitted.coef_).T.ravel()
    return np.append(weights, fitted.intercept_ if bias else []).astype(np.float32)


def gradient_norm(case: Case, params: Array, x: Any, y: Array, *, bias: bool = True) -> float:
    """Of the mean loss with its penalty; the largest part."""
    n, features = x.shape
    _, gradient = loss_and_gradient(case, params, Batch(x, y.astype(np.float32), n), bias=bias)
    gradient /= n
    penalised = case.model(bias=bias).penalised(data(features, case.classes))
    gradient[penalised] += np.float32(L2) * params[penalised]
    return float(np.abs(gradient).max())


@pytest.mark.parametrize("rows", [census, lambda: standardised(load_breast_cancer)], ids=["census", "cancer"])
def test_logistic_regression(rows: Any) -> None:
    x, y = rows()
    fitted = LogisticRegression(C=1 / (L2 * len(y)), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    assert gradient_norm(Case("log", 2), flat(fitted), x, y) < 2e-6
    assert gradient_norm(Case("log", 2), 0 * flat(fitted), x, y) > 0.05


def test_softmax() -> None:
    x, y = standardised(load_wine)
    fitted = LogisticRegression(C=1 / (L2 * len(y)), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    assert gradient_norm(Case("log", 3), flat(fitted), x, y) < 2e-6
    assert gradient_norm(Case("log", 3), 0 * flat(fitted), x, y) > 0.05


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine], ids=["two classes", "one against the rest"])
def test_squared_hinge(load: Any) -> None:
    x, y = standardised(load)
    svm = LinearSVC(C=1 / (L2 * len(y)), dual=False, fit_intercept=False, tol=1e-10, max_iter=10_000)
    classes = len(set(y))
    params = flat(svm.fit(x, y), bias=False)
    assert gradient_norm(Case("squared_hinge", classes), params, x, y, bias=False) < 1e-5
    assert gradient_norm(Case("squared_hinge", classes), 0 * params, x, y, bias=False) > 0.05


def test_hinge() -> None:
    """Where the hinge has its kink the optimum mixes both slopes; the dual says how, and weights of rows take it."""
    x, y = standardised(load_breast_cancer)
    n, most = len(y), 1 / (L2 * len(y))
    svm = SVC(C=most, kernel="linear", tol=1e-8).fit(x, y)
    shares = np.zeros(n, np.float32)
    shares[svm.support_] = np.abs(svm.dual_coef_[0]) / most
    params = flat(svm)
    inside = np.float32(1 - 1e-4) * params  # support vectors at the kink then lie within the margin
    _, gradient = loss_and_gradient(Case("hinge", 2), inside, Batch(x, y.astype(np.float32), n, shares))
    gradient /= n
    gradient[:-1] += np.float32(L2) * params[:-1]
    assert np.abs(gradient).max() < 1e-5
    assert np.count_nonzero((shares > 0) & (shares < 1)) > 0  # some do lie there
    assert gradient_norm(Case("hinge", 2), 0 * params, x, y) > 0.05


def test_least_squares() -> None:
    x, y = standardised(load_diabetes)
    fitted = Ridge(alpha=L2 * len(y), tol=1e-12).fit(x, y)
    scale = float(np.abs(y).max())
    assert gradient_norm(Case("squared", 0), flat(fitted), x, y) / scale < 1e-5
    assert gradient_norm(Case("squared", 0), 0 * flat(fitted), x, y) / scale > 0.05
