"""Logistic regression: loss and gradient against references from outside, and the laws of sums."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from scipy.sparse import csr_matrix, random_array
from scipy.special import expit
from sklearn.metrics import log_loss

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.errors import DataError
from lambdaml_core.models.logistic import LogisticRegression

Array = NDArray[Any]


def model(bias: bool = True) -> LogisticRegression:
    return LogisticRegression(LinearOptions(bias=bias))


def problem(rows: int, features: int = 6, *, sparse: bool = False, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    if sparse:
        x: Any = csr_matrix(random_array((rows, features), density=0.3, rng=rng, dtype=np.float32))
    else:
        x = rng.standard_normal((rows, features), np.float32)
    return Batch(x, (rng.random(rows) < 0.4).astype(np.float32), rows)


def some_params(features: int = 6, *, bias: bool = True, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(features + bias, np.float32)


def loss_and_gradient(params: Array, batch: Batch, *, bias: bool = True) -> tuple[float, Array]:
    out = np.full_like(params, np.nan)
    return model(bias).loss_and_gradient(params, batch, out), out


def part(batch: Batch, lo: int, hi: int) -> Batch:
    return Batch(batch.x[lo:hi], batch.y[lo:hi], hi - lo)


def reference_loss(params: Array, batch: Batch, bias: bool) -> float:
    """The sum of log losses in float64 by scikit-learn."""
    weights = params.astype(np.float64)
    margin = batch.x @ (weights[:-1] if bias else weights) + (weights[-1] if bias else 0.0)
    return float(log_loss(batch.y, expit(margin), normalize=False, labels=[0, 1]))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_is_scikit_learns_and_the_gradient_is_its_finite_difference(sparse: bool, bias: bool) -> None:
    batch, params = problem(200, sparse=sparse), some_params(bias=bias)
    loss, gradient = loss_and_gradient(params, batch, bias=bias)
    assert loss == pytest.approx(reference_loss(params, batch, bias), rel=1e-6)
    slopes = approx_fprime(params.astype(np.float64), reference_loss, 1e-6, batch, bias)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 120), max_size=5), sparse=st.booleans(), seed=st.integers(0, 9))
def test_sums_add_over_any_split_of_the_rows(cuts: list[int], sparse: bool, seed: int) -> None:
    batch, params = problem(120, sparse=sparse, seed=seed), some_params(seed=seed)
    edges = [0, *sorted(cuts), 120]  # equal cuts leave empty parts
    parts = [loss_and_gradient(params, part(batch, lo, hi)) for lo, hi in pairwise(edges)]
    loss, gradient = loss_and_gradient(params, batch)
    assert sum(p[0] for p in parts) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(sum(p[1] for p in parts), gradient, rtol=1e-5, atol=1e-4)


def test_dense_equals_sparse_to_rounding() -> None:
    sparse, params = problem(500, sparse=True), some_params()
    dense = sparse._replace(x=sparse.x.toarray())
    (loss_s, gradient_s), (loss_d, gradient_d) = (loss_and_gradient(params, b) for b in (sparse, dense))
    assert loss_s == pytest.approx(loss_d, rel=1e-6)
    np.testing.assert_allclose(gradient_s, gradient_d, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(model().predict(params, sparse), model().predict(params, dense), rtol=1e-5)


def margins_batch(margins: list[float], labels: list[int]) -> tuple[Array, Batch]:
    """Rows whose margins are these under the parameters returned."""
    x = np.array(margins, np.float32)[:, None]
    return np.array([1, 0], np.float32), Batch(x, np.array(labels, np.float32), len(x))


@pytest.mark.parametrize("margin", [0.0, 1e-30, 5.0, 16.0, 17.0, 40.0, 88.0, 88.8, 90.0, 200.0, 1e6, 3e38])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_margins_of_any_size_give_the_right_loss_and_gradient_without_a_warning(
    margin: float, label: int, sign: int
) -> None:
    params, batch = margins_batch([sign * margin], [label])
    loss, gradient = loss_and_gradient(params, batch)
    m = np.float64(np.float32(sign * margin))
    assert loss == pytest.approx(np.logaddexp(0, m if label == 0 else -m), rel=1e-5, abs=1e-6 * max(1.0, margin))
    assert gradient[-1] == pytest.approx(expit(m) - label, abs=1e-7)
    assert model().predict(params, batch)[0] == pytest.approx(expit(m), rel=1e-12)


def test_one_huge_margin_leaves_the_loss_of_the_others_as_it_is() -> None:
    params, batch = margins_batch([-120.0, 0.3, -2.0], [1, 0, 1])
    loss, _ = loss_and_gradient(params, batch)
    assert loss == pytest.approx(120 + np.logaddexp(0, 0.3) + np.logaddexp(0, 2.0), rel=1e-6)


def test_diverged_parameters_give_a_loss_that_is_not_finite_and_no_warning() -> None:
    batch = problem(10)
    for value in (np.inf, np.nan, 3e38):
        loss, _ = loss_and_gradient(np.full(7, value, np.float32), batch)
        assert not np.isfinite(loss)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_without_rows_has_no_loss_and_no_gradient(sparse: bool) -> None:
    batch = part(problem(5, sparse=sparse), 2, 2)
    loss, gradient = loss_and_gradient(some_params(), batch)
    assert loss == 0
    assert not gradient.any()
    assert model().predict(some_params(), batch).shape == (0,)


@pytest.mark.parametrize(("bias", "size"), [(True, 5), (False, 4)])
def test_parameters_start_at_zero_and_the_bias_is_last_and_not_penalised(bias: bool, size: int) -> None:
    data = cast(Data, SimpleNamespace(features=4, classes=2))
    params = model(bias).init(data, np.random.default_rng(0))
    assert params.dtype == np.float32
    assert params.tolist() == [0] * size
    assert np.arange(size)[model(bias).penalised].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("classes", [1, 3])
def test_other_than_two_classes_are_refused(classes: int) -> None:
    with pytest.raises(DataError, match=f"two classes, and the data has {classes}"):
        model().init(cast(Data, SimpleNamespace(features=4, classes=classes)), np.random.default_rng(0))


def test_the_same_rows_give_the_same_bytes() -> None:
    batch, params = problem(1000), some_params()
    first, second = (loss_and_gradient(params, batch) for _ in range(2))
    assert first[0] == second[0]
    assert first[1].tobytes() == second[1].tobytes()


def test_dense_rows_are_trained_without_scipy() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lambdaml_core.data.base import Batch\n"
        "from lambdaml_core.models.logistic import LogisticRegression\n"
        "from lambdaml_core.builtin import LinearOptions\n"
        "m = LogisticRegression(LinearOptions())\n"
        "b = Batch(np.ones((2, 1), 'f4'), np.array([0, 1], 'f4'), 2)\n"
        "p = np.zeros(2, 'f4')\n"
        "m.loss_and_gradient(p, b, p.copy()); m.predict(p, b); m.metrics(m.score(p, b))\n"
        "sys.exit('scipy' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
