"""``em`` on ``kmeans`` beside scikit-learn's Lloyd, from the same start, for every number of rounds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans as Lloyd
from sklearn.exceptions import ConvergenceWarning

from lambdaml_core.testing.optimizer import Rows
from lambdaml_core.testing.optimizer_laws.training import Training
from lambdaml_kmeans.em import EM
from lambdaml_kmeans.model import KMeans
from lambdaml_kmeans.options import EMOptions, KMeansOptions

COUNT, ROUNDS = 900, 20
CUTS = {1: [], 2: [850], 4: [0, 3, 700]}
"""Where the rows of each rank end: of four, one has none and one has three."""


def dense() -> NDArray[Any]:
    """Rows far from the origin, so that float32 has few digits left for what is between them."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((COUNT, 9)) + rng.integers(0, 2, (COUNT, 1)) + 40).astype(np.float32)


def sparse() -> Any:
    """Rows like those of RCV1: a few of many columns, common ones and rare ones, of length 1."""
    rng = np.random.default_rng(1)
    columns = np.minimum(rng.zipf(1.4, (COUNT, 30)), 3000) - 1
    x = csr_matrix((np.ones(COUNT * 30), columns.ravel(), np.arange(0, COUNT * 30 + 1, 30)), shape=(COUNT, 3000))
    x.sum_duplicates()
    lengths = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    x.data /= np.repeat(lengths, np.diff(x.indptr))
    return csr_matrix(x, dtype=np.float32)


def losses(
    x: Any, clusters: int, cuts: Sequence[int], rounds: int = ROUNDS, *, weights: Any = None, **options: Any
) -> list[float]:
    """The loss before each round, and at the end."""
    rows = Rows(x, np.zeros(COUNT, np.float32), classes=0, weights=weights)
    training = Training(
        EM(EMOptions(tolerance=0.0, **{"init": "first_k", **options})),
        KMeans(KMeansOptions(clusters=clusters, precision="float64")),
        rows,
        rounds,
        COUNT,
        30.0,
        size=len(cuts) + 1,
        shares=rows.cut(cuts, steps=1),
    )
    told = training.run()[0]
    return [figures["loss"] for figures in training.witnesses[0].figures] + [told.outcome.train_loss]


def first(x: Any, clusters: int) -> NDArray[Any]:
    """The first rows, dense, float64."""
    some = x[:clusters]
    return np.asarray(some if isinstance(some, np.ndarray) else some.toarray(), np.float64)


def reference(x: Any, start: NDArray[Any], rounds: int, weights: Any = None) -> float:
    """The inertia of scikit-learn's centroids after so many rounds."""
    lloyd = Lloyd(len(start), init=start, n_init=1, tol=0, max_iter=rounds, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(lloyd.fit(x.astype(np.float64), sample_weight=weights).inertia_)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("clusters", [5, 40])
def test_every_round_is_one_of_lloyd(kind: str, clusters: int) -> None:
    x: Any = dense() if kind == "dense" else sparse()
    right = [reference(x, first(x, clusters), i) / COUNT for i in range(1, ROUNDS + 1)]
    assert right[5] < right[3]
    for workers, cuts in CUTS.items():
        found = losses(x, clusters, cuts)[1:]  # fewer, once nothing moves any more
        assert found + found[-1:] * (ROUNDS - len(found)) == pytest.approx(right, rel=1e-9), f"by {workers} workers"


def test_weights_are_those_of_lloyd() -> None:
    x, weights = dense(), np.random.default_rng(2).uniform(0.1, 3, COUNT).astype(np.float32)
    found = losses(x, 5, CUTS[4], 6, weights=weights)
    for i in range(1, 6):
        right = reference(x, first(x, 5), i, weights) / float(weights.sum(dtype=np.float64))
        assert found[i] == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_centroid_without_rows_goes_to_the_farthest_row_as_in_lloyd(kind: str) -> None:
    x: Any = dense() if kind == "dense" else sparse()
    x = x[np.concatenate([[0, 0, 0], np.arange(3, COUNT)])]
    start = first(x, 5)
    for cuts in CUTS.values():
        found = losses(x, 5, cuts, 8, empty="reseed")
        for i in range(1, 8):
            assert found[i] == pytest.approx(reference(x, start, i) / COUNT, rel=1e-9), f"round {i}, cut at {cuts}"


def test_a_centroid_without_rows_stays_where_it_is() -> None:
    x = dense()
    x[1] = x[0]
    x[2:] += 100
    rows = Rows(x, np.zeros(COUNT, np.float32), classes=0)
    training = Training(EM(EMOptions(init="first_k")), KMeans(KMeansOptions(clusters=3)), rows, 5, COUNT, 30.0, size=2)
    centroids = training.run()[0].outcome.params.reshape(3, -1)
    np.testing.assert_array_equal(centroids[1], x[1])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_float32_comes_as_near_as_it_can(kind: str) -> None:
    x: Any = dense() if kind == "dense" else sparse()
    model, rows = KMeans(KMeansOptions(clusters=5)), Rows(x, np.zeros(COUNT, np.float32), classes=0)
    training = Training(EM(EMOptions(init="first_k", tolerance=0.0)), model, rows, 4, COUNT, 30.0)
    assert training.run()[0].outcome.train_loss == pytest.approx(reference(x, first(x, 5), 4) / COUNT, rel=1e-5)
