"""What only logistic regression has: probabilities, slopes of extreme margins, and softmax as the sigmoid's sibling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_reference import Case, loss_and_gradient
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.models.logistic import LogisticRegression

Array = NDArray[Any]
MODEL = LogisticRegression(LinearOptions())
BINARY = Case("log", 2)


def rows_with_margins(margins: Any, labels: Any) -> tuple[Array, Batch]:
    """Rows whose margins are these, (n,) or (n, classes), under the parameters returned."""
    table = np.asarray(margins, np.float32).reshape(len(labels), -1)
    columns = table.shape[1]
    params = np.concatenate([np.eye(columns), np.zeros((1, columns))]).astype(np.float32).ravel()
    return params, Batch(table, np.array(labels, np.float32), len(labels))


@pytest.mark.parametrize("margin", [0.0, 1e-30, 5.0, 16.0, 17.0, 40.0, 88.0, 88.8, 90.0, 200.0, 1e6, 3e38])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_slopes_and_probabilities_of_margins_of_any_size(margin: float, label: int, sign: int) -> None:
    params, batch = rows_with_margins([sign * margin], [label])
    _, gradient = loss_and_gradient(BINARY, params, batch)
    m = np.float64(np.float32(sign * margin))
    assert gradient[-1] == pytest.approx(expit(m) - label, abs=1e-7)
    assert MODEL.probabilities(params, batch)[0] == pytest.approx([expit(-m), expit(m)], rel=1e-12)


def test_one_huge_margin_leaves_the_loss_of_the_others_as_it_is() -> None:
    params, batch = rows_with_margins([-120.0, 0.3, -2.0], [1, 0, 1])
    loss, _ = loss_and_gradient(BINARY, params, batch)
    assert loss == pytest.approx(120 + np.logaddexp(0, 0.3) + np.logaddexp(0, 2.0), rel=1e-6)


@given(
    st.lists(st.tuples(*[st.floats(-(2.0**127), 2.0**127, width=32)] * 3, st.integers(0, 2)), min_size=1, max_size=8)
)
def test_softmax_is_right_for_margins_of_any_size(rows: list[tuple[float, float, float, int]]) -> None:
    margins, labels = np.array([row[:3] for row in rows]), [row[3] for row in rows]
    params, batch = rows_with_margins(margins, labels)
    loss, gradient = loss_and_gradient(Case("log", 3), params, batch)
    expected = -log_softmax(margins, axis=1)[np.arange(len(rows)), labels]
    assert loss == pytest.approx(expected.sum(), rel=1e-5, abs=1e-6)
    chances = softmax(margins, axis=1)
    np.testing.assert_allclose(gradient[-3:], (chances - np.eye(3)[labels]).sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(MODEL.probabilities(params, batch), chances, rtol=1e-9, atol=1e-12)


def test_softmax_over_two_columns_is_the_sigmoid_of_their_difference() -> None:
    batch = BINARY.rows(300)
    two = np.random.default_rng(3).standard_normal((7, 2)).astype(np.float32)
    one = two[:, 1] - two[:, 0]
    (loss2, gradient2), (loss1, gradient1) = (loss_and_gradient(BINARY, p, batch) for p in (two.ravel(), one))
    assert loss2 == pytest.approx(loss1, rel=1e-6)
    columns = gradient2.reshape(7, 2)
    np.testing.assert_allclose(columns[:, 1], gradient1, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(columns[:, 0], -gradient1, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        MODEL.probabilities(two.ravel(), batch), MODEL.probabilities(one, batch), rtol=1e-4, atol=1e-6
    )
