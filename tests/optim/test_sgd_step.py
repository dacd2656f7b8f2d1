"""The step: torch's numbers, long vectors in pieces, and l1 that ends at the optimum with exact zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator
from sgd_ranks import Array, alone, cut, run, shares, workers
from sgd_reference import SETTINGS, step
from sklearn.datasets import load_breast_cancer

from lambdaml_core.builtin import GASGDOptions, LinearOptions, SGDOptions
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.sgd import Step


# torch 2.13, torch.optim.SGD([{"params": w, "weight_decay": 0.01}, {"params": b}], lr=0.5, momentum=0.9, nesterov=...),
# 8 steps from 0 in float64 on binary_cross_entropy_with_logits of all ten rows
@pytest.mark.parametrize(
    ("nesterov", "expected"),
    [
        (False, [-1.5388496764, 0.6431808708, 2.2338738916, 1.7707535585, -1.1919417837]),
        (True, [-1.4559465967, 0.7004770436, 2.2128853204, 1.6907770389, -1.2828717254]),
    ],
)
def test_momentum_and_nesterov_are_those_of_torch(nesterov: bool, expected: list[float]) -> None:
    x = np.sin(np.arange(40.0)).reshape(10, 4).astype(np.float32)
    y = (np.arange(10) % 3 == 0).astype(np.float32)
    options = GASGDOptions(learning_rate=0.5, momentum=0.9, nesterov=nesterov, l2=0.01)
    (data,) = shares(x, y, batch_size=10)
    state, _ = run(GASGD(options), LogisticRegression(LinearOptions()), data, 8)
    np.testing.assert_allclose(state.params, expected, rtol=2e-6)


class Shape(LogisticRegression):
    """Any number of parameters, of which any range is penalised."""

    def __init__(self, size: int, penalised: slice) -> None:
        super().__init__(LinearOptions())
        self._size, self._penalised = size, penalised

    def penalised(self, data: Data) -> slice:
        return self._penalised

    def init(self, data: Data, rng: Generator) -> Array:
        return rng.standard_normal(self._size).astype(np.float32)

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Any = None) -> float:
        raise NotImplementedError


@given(
    size=st.sampled_from([1, 5, 1 << 16, (1 << 16) + 1, 150_000]),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    settings=st.sampled_from(SETTINGS),
    eta=st.floats(1e-3, 1),
    rows=st.integers(1, 10**6),
)
def test_a_long_vector_is_moved_as_a_whole_whatever_part_is_penalised(
    size: int, share: list[float], settings: dict[str, Any], eta: float, rows: int
) -> None:
    first, last = (int(size * s) for s in share)
    model = Shape(size, slice(first, last))
    (data,) = cut(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), [], 1)
    (worker,) = workers(model, data, alone(), 1)
    o = SGDOptions(**settings)
    p, v, g = (model.init(data, np.random.default_rng(seed)) for seed in range(3))
    # in the reference the penalised parameters come first
    order = np.r_[first:last, 0:first, last:size]
    expected_p, expected_v = step(p[order], (v if o.momentum else 0 * v)[order], g[order], rows, eta, o, last - first)
    Step(o, worker, p, g, v if o.momentum else None)(eta, rows)
    assert np.array_equal(p[order], expected_p)
    assert not o.momentum or np.array_equal(v[order], expected_v)


@pytest.mark.parametrize(
    ("momentum", "steps"),
    [({}, 12_000), ({"momentum": 0.9}, 2000), ({"momentum": 0.9, "nesterov": True}, 2000)],
)
def test_with_l1_all_steps_end_at_the_optimum_with_exact_zeros(momentum: dict[str, Any], steps: int) -> None:
    """By its conditions (Karush, Kuhn, Tucker): slopes are -l1 sign(w) where w is not 0, and at most l1 where it is."""
    x, y = load_breast_cancer(return_X_y=True)
    x, y = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y.astype(np.float32)
    l1 = 0.02
    options = GASGDOptions(learning_rate=0.4, l1=l1, **momentum)
    (data,) = shares(x, y, batch_size=len(y))
    state, _ = run(GASGD(options), LogisticRegression(LinearOptions()), data, steps)
    w, bias = state.params[:-1].astype(np.float64), float(state.params[-1])
    residual = 1 / (1 + np.exp(-(x @ w + bias))) - y
    slopes = x.T @ residual / len(y)
    assert abs(residual.mean()) < 1e-5
    assert np.abs(slopes + l1 * np.sign(w))[w != 0].max() < 1e-4
    assert np.abs(slopes[w == 0]).max() < l1
    assert 10 < np.count_nonzero(w == 0) < 29
