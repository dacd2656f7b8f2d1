"""What only the SVM has: classes as signs, and one class against the rest."""

from __future__ import annotations

import numpy as np
import pytest
from linear_reference import Case, loss_and_gradient

from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import SupportsProbabilities

both_losses = pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])


@both_losses
@pytest.mark.parametrize(("label", "margin", "expected"), [(1, 0.25, 0.75), (0, -0.25, 0.75), (1, 2, 0), (0, 2, 3)])
def test_class_0_is_minus_one_and_not_zero(loss: str, label: int, margin: float, expected: float) -> None:
    batch = Batch(np.array([[margin]], np.float32), np.array([label], np.float32), 1)
    got, gradient = loss_and_gradient(Case(loss, 2), np.array([1, 0], np.float32), batch)
    sign = 1 if label else -1
    assert got == (expected if loss == "hinge" else expected**2)
    assert gradient[1] == (-sign * (expected > 0) if loss == "hinge" else -2 * sign * expected)


@both_losses
def test_exchanging_the_classes_and_the_sign_of_the_parameters_changes_nothing(loss: str) -> None:
    case = Case(loss, 2)
    batch, params = case.rows(200), case.params()
    one, gradient = loss_and_gradient(case, params, batch)
    other, opposite = loss_and_gradient(case, -params, batch._replace(y=1 - batch.y))
    assert one == other
    np.testing.assert_array_equal(gradient, -opposite)


@both_losses
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_many_classes_are_as_many_problems_of_one_against_the_rest(loss: str, sparse: bool, bias: bool) -> None:
    many, two = Case(loss, 4), Case(loss, 2)
    batch, params = many.rows(300, sparse=sparse), many.params(bias=bias)
    total, gradient = loss_and_gradient(many, params, batch, bias=bias)
    parts = [
        loss_and_gradient(
            two,
            np.ascontiguousarray(params.reshape(-1, 4)[:, c]),
            batch._replace(y=(batch.y == c).astype(np.float32)),
            bias=bias,
        )
        for c in range(4)
    ]
    assert total == pytest.approx(sum(p[0] for p in parts), rel=1e-5)
    np.testing.assert_allclose(gradient.reshape(-1, 4), np.stack([p[1] for p in parts], axis=1), rtol=1e-4, atol=1e-3)


@both_losses
def test_margins_are_not_probabilities(loss: str) -> None:
    assert not isinstance(Case(loss, 2).model(), SupportsProbabilities)
