"""The model ``kmeans``: k centroids, and each row belongs to the nearest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.models.base import Ready
from lambdaml_kmeans.nearest import Nearest, add_sums, total_squares, weighted_sum
from lambdaml_kmeans.options import KMeansOptions

Array = NDArray[Any]


@runtime_checkable
class SupportsCentroids(Protocol):
    """A model whose parameters are places among the rows, which may be looked for there."""

    def centroids(self, params: Array) -> Array:
        """(k, features), a view of the parameters."""


class KMeans:
    """k-means (Lloyd 1982). The loss of a row is the squared distance from the nearest centroid.

    Parameters are the centroids, (clusters, features) row by row, float32 or float64. Distances are computed in their
    dtype, so that parameters of another one may be passed in. Labels of rows are not looked at.
    """

    def __init__(self, options: KMeansOptions) -> None:
        self._clusters = options.clusters
        self._dtype = np.dtype(options.precision)

    def centroids(self, params: Array) -> Array:
        """(clusters, features), a view of the parameters."""
        return params.reshape(self._clusters, -1)

    def penalised(self, data: Data) -> slice:
        """Nothing: centroids near to the origin are no better than others."""
        return slice(0, 0)

    def init(self, data: Data, rng: Generator) -> Array:
        """The first rows of this rank, which are shuffled, that have a weight; repeated, if they are too few; zeros
        where there are none."""
        params = np.zeros(self._clusters * data.features, self._dtype)
        centroids, found = self.centroids(params), 0
        for batch in data.blocks() if data.rows else ():
            x = batch.x if batch.weights is None else batch.x[batch.weights > 0]
            x = x[: self._clusters - found]
            centroids[found : found + x.shape[0]] = x if isinstance(x, np.ndarray) else x.toarray()
            found += x.shape[0]
            if found == self._clusters:
                break
        if 0 < found < self._clusters:
            centroids[...] = centroids[np.arange(self._clusters) % found]
        return params

    # --- expectation maximisation

    def totals(self, params: Array) -> dict[str, Array]:
        """Zeros: ``sums`` (clusters, features) in the dtype of params, ``counts`` (clusters,) and ``inertia`` (1,)
        float64."""
        return {
            "sums": np.zeros_like(self.centroids(params)),
            "counts": np.zeros(self._clusters),
            "inertia": np.zeros(1),
        }

    def statistics(self, params: Array, batches: Iterable[Batch], out: Arrays) -> None:
        """Add the sum of each cluster's rows, their number, and all squared distances; each row times its weight."""
        nearest: Nearest | None = None
        counts, inertia = np.zeros(self._clusters), 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # rows too large to be squared: the loss tells
            for batch in batches:
                if nearest is None:
                    nearest = Nearest(self.centroids(params), dense=isinstance(batch.x, np.ndarray))
                for block in nearest.blocks(batch.x):
                    weights = None if batch.weights is None else batch.weights[block.lo : block.hi]
                    counts += np.bincount(block.labels, weights, self._clusters)
                    add_sums(block.x, block.labels, weights, out["sums"])
                    inertia += float(np.maximum(total_squares(block.x, weights) + weighted_sum(block.gaps, weights), 0))
            if nearest is not None:
                out["sums"][...] += counts.astype(params.dtype)[:, None] * nearest.shift
        out["counts"][...] += counts
        out["inertia"][0] += inertia

    def maximise(self, params: Array, totals: Arrays) -> Mapping[str, float]:
        """Each centroid becomes the mean of its rows; one without rows stays where it is.

        Returns:
            ``inertia``, the squared distances of all rows from the centroids as they were, times the rows' weights;
            ``loss``, this over the sum of the weights; ``moved``, how far the centroid went that went farthest.
        """
        centroids, counts, inertia = self.centroids(params), totals["counts"], float(totals["inertia"][0])
        there, rows = np.flatnonzero(counts), float(counts.sum())
        if not rows:
            return {"loss": math.nan, "inertia": 0.0, "moved": math.nan}
        with np.errstate(over="ignore", invalid="ignore"):
            means = (totals["sums"][there] / counts[there, None]).astype(params.dtype)
            steps = means.astype(np.float64) - centroids[there]
            moved = math.sqrt(float(np.einsum("ij,ij->i", steps, steps).max()))
        centroids[there] = means
        return {"loss": inertia / rows, "inertia": inertia, "moved": moved}

    # --- as every model

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        """Sum of the rows' squared distances, each times its weight; the gradient 2 (count c - sum) of each centroid c
        into ``out``, by which mini-batches train it (Bottou and Bengio 1995, equation 6)."""
        totals = self.totals(params)
        self.statistics(params, [batch], totals)
        with np.errstate(over="ignore", invalid="ignore"):
            pulled = totals["counts"].astype(params.dtype)[:, None] * self.centroids(params) - totals["sums"]
            self.centroids(out)[...] = 2 * pulled
        return float(totals["inertia"][0])

    def predict(self, params: Array, batch: Batch) -> Array:
        """(n,) int64: the number of the nearest centroid."""
        labels = np.zeros(batch.n, np.int64)
        nearest = Nearest(self.centroids(params), dense=isinstance(batch.x, np.ndarray))
        with np.errstate(over="ignore", invalid="ignore"):
            for block in nearest.blocks(batch.x):
                labels[block.lo : block.hi] = block.labels
        return labels

    def score(self, params: Array, batch: Batch) -> Arrays:
        """Totals, (1,): ``rows`` int64, and ``inertia`` float64, the sum of squared distances."""
        totals = self.totals(params)
        self.statistics(params, [batch._replace(weights=None)], totals)
        return {"rows": np.array([batch.n], np.int64), "inertia": totals["inertia"]}

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        """``loss``, the mean squared distance from the nearest centroid, and ``inertia``, the sum."""
        rows, inertia = int(totals["rows"][0]), float(totals["inertia"][0])
        return {"loss": inertia / rows, "inertia": inertia} if rows else {"loss": math.nan, "inertia": math.nan}
