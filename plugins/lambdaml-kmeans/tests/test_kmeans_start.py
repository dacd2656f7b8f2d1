"""Where centroids start: k-means||, k-means++, the first rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.typing import NDArray
from sklearn.cluster import KMeans as Lloyd

from lambdaml_core.errors import OptionError
from lambdaml_core.testing.optimizer import Rows
from lambdaml_core.testing.optimizer_laws.training import Training
from lambdaml_kmeans.em import EM
from lambdaml_kmeans.model import KMeans
from lambdaml_kmeans.options import EMOptions, KMeansOptions
from lambdaml_kmeans.seeding import kmeans_plus_plus


def islands(count: int, rows: int = 400) -> Rows:
    """Rows in as many far islands, very uneven ones."""
    rng = default_rng(0)
    which = np.minimum(rng.geometric(0.25, rows) - 1, count - 1)
    which[:count] = np.arange(count)
    places = rng.permutation(np.arange(count)[:, None] * 100.0 + np.arange(6) * 7)
    x = (places[which] + rng.standard_normal((rows, 6))).astype(np.float32)
    return Rows(x[rng.permutation(rows)], np.zeros(rows, np.float32), classes=0)


def trained(
    rows: Rows, clusters: int, rounds: int = 1, size: int = 1, initial: Any = None, **options: Any
) -> NDArray[Any]:
    training = Training(
        EM(EMOptions(**options)),
        KMeans(KMeansOptions(clusters=clusters)),
        rows,
        rounds,
        len(rows),
        30.0,
        size=size,
        initial=initial,
    )
    return training.run()[0].outcome.params.reshape(clusters, -1)


def inertia(rows: Rows, centroids: NDArray[Any]) -> float:
    distances = ((rows.x[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return float(distances.min(axis=1).sum())


def test_kmeans_parallel_finds_every_island() -> None:
    rows = islands(12)
    best = float(Lloyd(12, n_init=20, random_state=0).fit(rows.x).inertia_)
    assert inertia(rows, trained(rows, 12)) == pytest.approx(best, rel=0.01)
    assert inertia(rows, trained(rows, 12, init="first_k")) > 10 * best  # a start that knows nothing


def test_any_number_of_workers_starts_alike() -> None:
    rows = islands(12)
    for init in ("kmeans_parallel", "first_k"):
        one = trained(rows, 12, init=init)
        for size in (2, 3, 4):
            np.testing.assert_allclose(trained(rows, 12, size=size, init=init), one, rtol=1e-5)


def test_sparse_rows_start_as_dense_ones() -> None:
    rows = islands(5)
    np.testing.assert_allclose(trained(rows.sparse(), 5, size=2), trained(rows, 5, size=2), rtol=1e-5)


def test_rows_without_weight_are_no_start() -> None:
    rows = islands(3)
    weights = np.ones(len(rows), np.float32)
    weights[:50] = 0
    x = rows.x.copy()
    x[:50] = 1e6
    for init in ("kmeans_parallel", "first_k", "model"):
        assert trained(replace(rows, x=x, weights=weights), 3, init=init).max() < 1e5


def test_a_model_that_is_gone_on_with_stays_where_it_was() -> None:
    rows = islands(4)
    done = trained(rows, 4, rounds=20)
    np.testing.assert_allclose(trained(rows, 4, size=2, initial=done.ravel()), done, rtol=1e-5)


def test_more_centroids_than_rows_repeat() -> None:
    rows = islands(4).part(0, 3)
    for init in ("kmeans_parallel", "first_k", "model"):
        centroids = trained(rows, 5, size=2, init=init)
        assert inertia(rows, centroids) == pytest.approx(0, abs=1e-3) or init == "model"
        assert np.isfinite(centroids).all()


@settings(deadline=None)
@given(weights=st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(any), seed=st.integers(0, 99))
def test_kmeans_plus_plus_draws_different_rows_that_weigh_something(weights: list[int], seed: int) -> None:
    rows = np.eye(6)
    wanted = sum(w > 0 for w in weights)
    chosen = kmeans_plus_plus(rows, np.array(weights, float), wanted, default_rng(seed))
    assert sorted(chosen) == [i for i, w in enumerate(weights) if w]


def test_kmeans_plus_plus_draws_by_squared_distance() -> None:
    rows, weights = np.array([[0.0], [1.0], [3.0]]), np.array([1e12, 2.0, 1.0])
    drawn = [kmeans_plus_plus(rows, weights, 2, default_rng(seed))[1] for seed in range(2000)]
    assert np.mean(np.array(drawn) == 2) == pytest.approx(9 / 11, abs=0.03)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(OptionError, match="fewer than k"):
        EMOptions(init_passes=1, oversampling=0.5)
