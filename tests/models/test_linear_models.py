"""What linear models promise beyond the laws of models: losses and gradients as references from outside have them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from linear_reference import (
    CASES,
    CLASSIFIERS,
    Case,
    data,
    loss_and_gradient,
    margins_of,
    reference_loss,
    torch_gradient,
)

from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError

every_case = pytest.mark.parametrize("case", CASES, ids=str)
dense_and_sparse = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
RNG = np.random.default_rng(0)


@every_case
@dense_and_sparse
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_loss_is_scikit_learns_and_the_gradient_torchs(case: Case, sparse: bool, bias: bool, weighted: bool) -> None:
    batch, params = case.rows(200, sparse=sparse), case.params(bias=bias)
    if weighted:
        batch = batch._replace(weights=np.linspace(0, 3, 200, dtype=np.float32))
    loss, gradient = loss_and_gradient(case, params, batch, bias=bias)
    assert loss == pytest.approx(reference_loss(params, case, batch, bias), rel=1e-6)
    np.testing.assert_allclose(gradient, torch_gradient(params, case, batch, bias), rtol=1e-5, atol=1e-3)


@every_case
@dense_and_sparse
def test_what_is_predicted_are_margins(case: Case, sparse: bool) -> None:
    batch, params = case.rows(50, sparse=sparse), case.params()
    margins = case.model().predict(params, batch)
    assert margins.dtype == np.float32
    assert margins.shape == ((50,) if case.columns == 1 else (50, case.classes))
    np.testing.assert_allclose(margins.reshape(50, -1), margins_of(case, params, batch, True), rtol=1e-5, atol=1e-5)


@every_case
def test_margins_of_any_size_give_the_right_loss_without_a_warning(case: Case) -> None:
    identity = np.zeros((2, case.columns), np.float32)
    identity[0, 0] = 1  # the margin of the first column is x, all others are 0
    for margin in (0.0, 1e-30, 1.0, 5.0, 17.0, 88.8, 90.0, 1e6, 1e18):
        for sign in (-1, 1):
            for label in range(max(case.classes, 1)):
                batch = Batch(np.array([[sign * margin]], np.float32), np.array([label], np.float32), 1)
                loss, gradient = loss_and_gradient(case, identity.ravel(), batch)
                expected = exact_loss(case, float(batch.x[0, 0]), label)
                assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6 * max(1.0, margin))
                assert np.isfinite(gradient).all()


def exact_loss(case: Case, margin: float, label: int) -> float:
    """Of a row whose first margin is this and whose others are 0, in a form that overflows nowhere."""
    if case.loss == "squared":
        return (margin - label) ** 2 / 2
    if case.loss == "log" and case.columns == 1:
        return float(np.logaddexp(0, -margin if label else margin))
    if case.loss == "log":
        return float(np.logaddexp.reduce([margin] + [0.0] * (case.classes - 1)) - (0 if label else margin))
    positive = label == 1 if case.columns == 1 else label == 0
    slack = max(0.0, 1 - (margin if positive else -margin))
    others = 0 if case.columns == 1 else case.classes - 1
    return (slack if case.loss == "hinge" else slack**2) + others


@every_case
@pytest.mark.parametrize("margin", [3e38, -3e38])
@pytest.mark.parametrize("label", [0, 1])
def test_the_largest_margins_warn_of_nothing(case: Case, margin: float, label: int) -> None:
    identity = np.zeros((2, case.columns), np.float32)
    identity[0, 0] = 1
    batch = Batch(np.full((3, 1), margin, np.float32), np.full(3, label, np.float32), 3)
    loss, _ = loss_and_gradient(case, identity.ravel(), batch)
    assert loss >= 0
    assert np.isfinite(loss)  # although float32 may be too small for it
    weighted = batch._replace(weights=np.array([2, 4, 0], np.float32))
    assert loss_and_gradient(case, identity.ravel(), weighted)[0] == pytest.approx(2 * loss, rel=1e-6)
    case.model().metrics(case.model().score(identity.ravel(), batch))


@every_case
@dense_and_sparse
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("column", [0, -1])
@pytest.mark.parametrize("label", [0, 1])
def test_a_margin_that_is_not_finite_shows_in_the_loss_whichever_side_it_is_on(
    case: Case, sparse: bool, value: float, column: int, label: int
) -> None:
    batch, params = case.rows(10, sparse=sparse)._replace(y=np.full(10, label, np.float32)), case.params()
    params.reshape(-1, case.columns)[-1, column] = value  # a bias: the margins of all rows
    loss, _ = loss_and_gradient(case, params, batch)
    assert not np.isfinite(loss)
    model = case.model()
    assert not np.isfinite(model.metrics(model.score(params, batch))["loss"])


@every_case
@pytest.mark.parametrize("bias", [True, False])
def test_parameters_start_at_zero_and_biases_are_last_and_not_penalised(case: Case, bias: bool) -> None:
    rows = data(4, case.classes)
    params = case.model(bias=bias).init(rows, np.random.default_rng(0))
    assert params.dtype == np.float32
    assert params.tolist() == [0] * (4 + bias) * case.columns
    penalised = np.zeros(params.size, bool)
    penalised[case.model(bias=bias).penalised(rows)] = True
    assert penalised.tolist() == [True] * 4 * case.columns + [False] * bias * case.columns


@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
@pytest.mark.parametrize(("classes", "remedy"), [(0, "least_squares"), (1, "two values")])
def test_classifiers_refuse_numbers_and_a_single_class(case: Case, classes: int, remedy: str) -> None:
    with pytest.raises(DataError, match="tells classes apart") as caught:
        case.model().init(data(4, classes), np.random.default_rng(0))
    assert remedy in str(caught.value.hint)


def test_dense_rows_are_trained_without_scipy() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lambdaml_core.builtin import LinearOptions, SVMOptions\n"
        "from lambdaml_core.data.base import Batch\n"
        "from lambdaml_core.models.least_squares import LeastSquares\n"
        "from lambdaml_core.models.logistic import LogisticRegression\n"
        "from lambdaml_core.models.svm import SVM\n"
        "b = Batch(np.ones((3, 1), 'f4'), np.array([0, 1, 2], 'f4'), 3)\n"
        "o = LinearOptions()\n"
        "for m, k in (LogisticRegression(o), 3), (SVM(SVMOptions()), 3), (LeastSquares(o), 1):\n"
        "    p = np.zeros(2 * k, 'f4')\n"
        "    m.loss_and_gradient(p, b, p.copy()); m.predict(p, b); m.metrics(m.score(p, b))\n"
        "sys.exit('scipy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
