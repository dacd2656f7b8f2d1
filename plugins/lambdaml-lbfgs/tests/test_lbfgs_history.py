"""The two loops give what the dense BFGS matrix of the same pairs gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_lbfgs.history import History, default_length

Array = NDArray[Any]


def history(m: int, n: int) -> tuple[History, Array]:
    diagonal = np.zeros(n)
    kept = History(np.zeros((m, n)), np.zeros((m, n)), np.zeros(m), diagonal, np.zeros(1, np.int64), np.full(n, np.nan))
    return kept, diagonal


def inverse(pairs: list[tuple[Array, Array]], diagonal: Array) -> Array:
    """Nocedal and Wright, equation 6.17, from the inverse of the diagonal."""
    h = np.diag(1 / diagonal)
    for s, y in pairs:
        rho = 1 / (s @ y)
        v = np.eye(len(s)) - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    return h


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 5), count=st.integers(1, 12), n=st.integers(1, 6))
def test_directions_are_those_of_the_dense_matrix(seed: int, m: int, count: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    hessian = root @ root.T + 0.1 * np.eye(n)
    moves = rng.standard_normal((count, n))
    kept, diagonal = history(m, n)
    expected = np.ones(n)
    for s in moves:
        y = hessian @ s
        kept.remember(s, y)
        b = np.diag(expected) * (y @ (y / expected)) / (s @ y)
        b += np.outer(y, y) / (y @ s) - (b @ np.outer(s, s) @ b) / (s @ b @ s)  # equation 6.19
        expected = np.diag(b)
    np.testing.assert_allclose(diagonal, expected, rtol=1e-6)
    assert len(kept) == min(m, count)
    gradient, out = rng.standard_normal(n), np.full(n, np.nan)
    kept.descend(gradient, out)
    h = inverse([(s, hessian @ s) for s in moves[-m:]], diagonal)
    np.testing.assert_allclose(out, -h @ gradient, rtol=1e-6, atol=1e-9 * np.abs(h).max())
    assert gradient @ out < 0


def test_pairs_without_curvature_are_left_out() -> None:
    kept, _ = history(3, 2)
    kept.remember(np.array([1.0, 0]), np.array([-1.0, 0]))
    kept.remember(np.array([1.0, 0]), np.array([0, 1.0]))
    kept.remember(np.zeros(2), np.zeros(2))
    assert len(kept) == 0
    kept.remember(np.array([1.0, 0]), np.array([2.0, 0]))
    assert len(kept) == 1
    kept.forget()
    out = np.empty(2)
    kept.descend(np.array([3.0, -4.0]), out)
    np.testing.assert_array_equal(out, [-3, 4])


def test_large_models_remember_fewer_steps() -> None:
    lengths = [default_length(np.empty(n, np.float32), l1=0) for n in (1, 10_000, 100_000, 10_000_000)]
    assert lengths == [100, 100, 41, 10]
    assert default_length(np.empty(1, np.float32), l1=0.1) == 10
