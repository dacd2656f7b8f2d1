"""Where centroids start, and where those go that have lost their rows: rows of all ranks, chosen by collectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.optim.base import Worker
from lambdaml_kmeans.nearest import Nearest
from lambdaml_kmeans.rows import Chosen, rows_at, weights_of

Array = NDArray[Any]


def first_rows(w: Worker, centroids: Array) -> None:
    """Each centroid becomes one of the first k rows of the whole order that have a weight; they repeat, if too few."""
    before, _ = _whole_order(w)
    k = len(centroids)
    first = Chosen(w, k, lambda: np.where(weights_of(w) > 0, before + np.arange(float(w.data.rows)), np.inf))
    if first.size:
        centroids[...] = first.gather(lambda mine: rows_at(w, mine), w.data.features)[np.arange(k) % first.size]


def kmeans_parallel(w: Worker, centroids: Array, *, passes: int, oversampling: float) -> None:
    """k-means|| (Bahmani et al. 2012, algorithm 2), and k-means++ on the candidates that it finds.

    A pass draws rows with probabilities in proportion to their squared distance from the candidates so far, times their
    weight: all ranks together, ``oversampling`` times k of them, without replacement. Each candidate then counts as the
    rows that it is nearest to. A row's random numbers belong to its place in the whole order, so that any number of
    workers finds the same candidates but for rounding.
    """
    before, seed = _whole_order(w)
    k = len(centroids)
    found = _Candidates(w, centroids.dtype)
    for number in range(passes + 1):
        count = 1 if number == 0 else max(1, math.ceil(oversampling * k))

        def keys(number: int = number) -> Array:
            return _race(found.pull(), _uniform(seed, number, before, w.data.rows))

        chosen = Chosen(w, count, keys)
        if chosen.size:
            found.add(chosen.gather(lambda mine: rows_at(w, mine), w.data.features))
    if len(found.places):
        counts = found.counts(w)
        rng = Generator(Philox(key=seed, counter=[0, 0, 0, passes + 1]))
        centroids[...] = found.places[kmeans_plus_plus(found.places.astype(centroids.dtype), counts, k, rng)]


def kmeans_plus_plus(rows: Array, weights: Array, count: int, rng: Generator) -> Array:
    """(count,) numbers of rows chosen by k-means++ (Arthur and Vassilvitskii 2007, section 2.2), weighted.

    The first is drawn by weight, each further one by weight times squared distance from the nearest of those before.
    Where all rows are chosen that differ, they repeat in their order.
    """
    chosen = [_drawn(weights, rng)]
    distances = np.full(len(rows), np.inf)
    while len(chosen) < count:
        steps = rows - rows[chosen[-1]]
        np.minimum(distances, np.einsum("ij,ij->i", steps, steps), out=distances)
        pull = weights * distances
        if not pull.any():
            break
        chosen.append(_drawn(pull, rng))
    return np.resize(np.array(chosen), count)


def reseed(w: Worker, centroids: Array, totals: Arrays) -> None:
    """Give each cluster without rows the row that is farthest from its own centroid, of all ranks: the farthest to the
    first, and so on. The rows leave the clusters that they were in, and ``totals`` say so.

    It costs one more pass over the rows and two exchanges, in rounds in which there is such a cluster.

    Args:
        totals: ``sums``, ``counts``, ``inertia`` of all rows, from which all ranks see which clusters have none.
    """
    empty = np.flatnonzero(totals["counts"] == 0)
    if not len(empty) or len(empty) == len(centroids):
        return
    found = _Candidates(w, centroids.dtype)
    found.add(centroids)

    def keys() -> Array:
        return np.where(found.pull() > 0, -found.distances(), np.inf)

    def told(mine: Array) -> Array:
        return np.column_stack([rows_at(w, mine), found.labels()[mine], weights_of(w)[mine]])

    chosen = Chosen(w, len(empty), keys)
    table = chosen.gather(told, w.data.features + 2)
    for cluster, row in zip(empty, table, strict=False):
        was, weight = int(row[-2]), float(row[-1])
        moved = (weight * row[:-2].astype(np.float64)).astype(centroids.dtype)
        totals["sums"][was] -= moved
        totals["counts"][was] -= weight
        totals["sums"][cluster] = moved
        totals["counts"][cluster] = weight


# --- inside ---------------------------------------------------------------------------------------------------


class _Candidates:
    """Candidates so far, and how far this rank's rows are from the nearest: brought up to date when asked for.

    Attributes:
        places: (m, features) float32.
    """

    def __init__(self, w: Worker, dtype: np.dtype[Any]) -> None:
        self._w, self._dtype = w, dtype
        self.places = np.zeros((0, w.data.features), dtype)
        self._known = 0
        self._distances = np.full(w.data.rows, np.inf)
        self._labels = np.zeros(w.data.rows, np.int64)

    def add(self, places: Array) -> None:
        """More of them."""
        self.places = np.concatenate([self.places, places.astype(self._dtype)])

    def distances(self) -> Array:
        """(n,) squared distances; infinite where there is no candidate."""
        if self._known < len(self.places):
            self._catch_up(self.places[self._known :])
            self._known = len(self.places)
        return self._distances

    def labels(self) -> Array:
        """(n,) numbers of the nearest."""
        self.distances()
        return self._labels

    def pull(self) -> Array:
        """(n,) weight times squared distance; the weight alone, where there is no candidate."""
        weights = weights_of(self._w)
        return weights * self.distances() if len(self.places) else weights

    def counts(self, w: Worker) -> Array:
        """(m,) the rows of all ranks that each is nearest to, times their weights. One exchange."""
        counts = np.zeros(len(self.places))

        def fill(ready: Callable[[int, int], None]) -> None:
            counts[...] = np.bincount(self.labels(), weights_of(w), len(counts))

        w.comm.all_reduce({"counts": counts}, fill=fill)
        return counts

    def _catch_up(self, new: Array) -> None:
        nearest: Nearest | None = None
        first = 0
        for batch in self._w.data.blocks():
            if nearest is None:
                nearest = Nearest(new, dense=isinstance(batch.x, np.ndarray))
            for block in nearest.blocks(batch.x):
                mine = slice(first + block.lo, first + block.hi)
                distances = block.squared_distances()
                nearer = distances < self._distances[mine]
                self._distances[mine][nearer] = distances[nearer]
                self._labels[mine][nearer] = self._known + block.labels[nearer]
            first += batch.n


def _whole_order(w: Worker) -> tuple[int, int]:
    """The rows of the ranks before this one, and a seed that is the same on all. One exchange."""
    rows, seed = np.zeros(w.size, np.int64), np.zeros(1, np.int64)

    def fill(ready: Callable[[int, int], None]) -> None:
        rows[w.rank] = w.data.rows
        if w.rank == 0:
            seed[0] = w.rng("centroids").integers(1 << 62)

    w.comm.all_reduce({"rows": rows, "seed": seed}, fill=fill)
    return int(rows[: w.rank].sum()), int(seed[0])


def _uniform(seed: int, number: int, first: int, count: int) -> Array:
    """(count,) random numbers in [0, 1), of the rows from ``first`` on in pass ``number``: Philox counts in fours."""
    beyond = first % 4
    rng = Generator(Philox(key=seed, counter=[first // 4, 0, 0, number]))
    return rng.random(beyond + count)[beyond:]


def _race(pull: Array, uniform: Array) -> Array:
    """Keys, the smallest of which are a draw without replacement in proportion to ``pull`` (Efraimidis and Spirakis
    2006, in logarithms); infinite where that is 0."""
    with np.errstate(divide="ignore"):
        keys: Array = -np.log1p(-uniform) / pull
    return np.where(pull > 0, keys, np.inf)


def _drawn(pull: Array, rng: Generator) -> int:
    """A number from 0 on, drawn in proportion to ``pull``."""
    ends = np.cumsum(pull)
    return min(int(np.searchsorted(ends, rng.random() * ends[-1], side="right")), int(np.flatnonzero(pull)[-1]))
