"""Which centroid is nearest to each row: squared distances by BLAS, a block of rows at a time.

||x - c||^2 = ||x||^2 + (||c||^2 - 2 x c), and the first term does not depend on c. Where dense rows are far from the
origin, float32 would lose the difference between large terms: there all is first moved by the mean of the centroids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BLOCK_BYTES = 1 << 21  # of the rows and distances of a block: some stay in caches, and calls of numpy are few
_LEAST_ROWS = 512  # of a block: fewer would cost more to begin with than to go through
_NEAR = 100  # times the centroids' square distance from their mean: a mean as far as that loses two digits
_STRIP = 1024  # elements that a loop of numpy needs for what it does to outweigh what it costs to begin
FEW = 32  # centroids: up to here, going through them one by one is quicker than what is right for many


class Block(NamedTuple):
    """Some rows, and what they are nearest to. Dense rows are those of a buffer, until the next block is asked for.

    Attributes:
        lo, hi: which rows of the batch they are.
        x: (n, features), in the dtype of the centroids; dense ones moved by ``Nearest.shift``.
        labels: (n,) numbers of the nearest centroids, of equally near ones the first.
        gaps: (n,) squared distance less the square of the (moved) row's length.
    """

    lo: int
    hi: int
    x: Any
    labels: Array
    gaps: Array

    def squared_distances(self) -> Array:
        """(n,) from the nearest centroid."""
        distances: Array = np.maximum(squares(self.x) + self.gaps, 0)
        return distances


class Nearest:
    """Finds the nearest of some centroids; what depends on these alone is computed once.

    Args:
        centroids: (k, features), float32 or float64: what distances are computed in.
        dense: whether rows are an ndarray, and not a ``csr_matrix``.

    Attributes:
        shift: (features,) what rows and centroids are moved by: zeros, where nothing is lost without.
    """

    def __init__(self, centroids: Array, *, dense: bool) -> None:
        k, features = centroids.shape
        self._dense, self._dtype = dense, centroids.dtype
        self.shift = _shift(centroids) if dense else np.zeros(features, centroids.dtype)
        moved = centroids - self.shift
        self._lengths = np.einsum("ij,ij->i", moved, moved)
        self._factors = np.ascontiguousarray(-2 * moved.T)
        self._rows = max(_LEAST_ROWS, _BLOCK_BYTES // (centroids.itemsize * (k + features * dense)))
        self._strip = _strip(-self.shift) if self.shift.any() else None
        self._moved = np.empty((self._rows if dense else 0, features), centroids.dtype)
        self._scores = np.empty(self._rows * k, centroids.dtype)

    def blocks(self, x: Any) -> Iterator[Block]:
        """All rows of (n, features), in their order."""
        n = x.shape[0]
        for lo in range(0, n, self._rows):
            hi = min(lo + self._rows, n)
            rows = self._taken(x if n <= self._rows else x[lo:hi])
            yield Block(lo, hi, rows, *(self._few(rows) if len(self._lengths) <= FEW else self._many(rows)))

    def _few(self, rows: Any) -> tuple[Array, Array]:
        """Centroid by centroid, without branches: numpy's argmin takes as long for a row of ten as of a hundred."""
        n, k = rows.shape[0], len(self._lengths)
        scores = np.add((rows @ self._factors).T, self._lengths[:, None], out=self._scores[: n * k].reshape(k, n))
        best, labels = scores[0].copy(), np.zeros(n, np.uint8)
        nearer, numbers = np.empty(n, bool), np.empty(n, np.uint8)
        for number in range(1, k):
            np.less(scores[number], best, out=nearer)
            np.multiply(nearer.view(np.uint8), np.uint8(number), out=numbers)
            np.maximum(labels, numbers, out=labels)
            np.minimum(best, scores[number], out=best)
        return labels, best

    def _many(self, rows: Any) -> tuple[Array, Array]:
        n, k = rows.shape[0], len(self._lengths)
        scores = self._scores[: n * k].reshape(n, k)
        np.add(rows @ self._factors, self._lengths, out=scores)
        labels = scores.argmin(axis=1)
        return labels, scores[np.arange(n), labels]

    def _taken(self, rows: Any) -> Any:
        """Rows in the dtype of the centroids, and moved."""
        if self._strip is not None:
            return _add_to_rows(rows, self._strip, out=self._moved[: len(rows)])
        return rows.astype(self._dtype, copy=False)


def squares(x: Any) -> Array:
    """(n,) squared lengths of dense or sparse rows."""
    if isinstance(x, np.ndarray):
        dense: Array = np.einsum("ij,ij->i", x, x)
        return dense
    owners = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    return np.bincount(owners, weights=np.square(x.data), minlength=x.shape[0])


def weighted_sum(values: Array, weights: Array | None) -> float:
    """The sum of (n,) numbers, each times its weight, in float64."""
    return float(values.sum(dtype=np.float64)) if weights is None else float(values.astype(np.float64) @ weights)


def total_squares(x: Any, weights: Array | None) -> float:
    """The sum of the squared lengths of rows, each times its weight."""
    if weights is not None:
        return weighted_sum(squares(x), weights)
    values = (x if isinstance(x, np.ndarray) else x.data).ravel()
    return float(values @ values)


def add_sums(x: Any, labels: Array, weights: Array | None, out: Array) -> None:
    """Add to each row of ``out``, (k, features), the rows that are labelled with its number, times their weights."""
    k = len(out)
    if not isinstance(x, np.ndarray):
        _add_sparse_sums(x, labels, weights, out)
    elif k <= FEW:
        members = (labels == np.arange(k, dtype=labels.dtype)[:, None]).astype(x.dtype)
        if weights is not None:
            members *= weights
        out += members @ x
    else:
        order = np.argsort(labels.astype(np.uint16) if k <= 1 << 16 else labels, kind="stable")  # radix, for 16 bits
        rows, labels = x[order], labels[order]
        if weights is not None:
            rows *= weights[order, None]
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        if len(starts):
            out[labels[starts]] += np.add.reduceat(rows, starts, axis=0)


def _add_sparse_sums(x: Any, labels: Array, weights: Array | None, out: Array) -> None:
    """By the product of a sparse matrix of memberships and the rows: nothing dense of the size of ``out`` is made."""
    from scipy.sparse import csc_matrix

    n = len(labels)
    ones = np.ones(n, x.dtype) if weights is None else weights.astype(x.dtype)
    members = csc_matrix((ones, labels.astype(np.int32), np.arange(n + 1, dtype=np.int32)), shape=(len(out), n))
    sums = (members.tocsr() @ x).tocsr()
    owners = np.repeat(np.arange(len(out), dtype=np.int64), np.diff(sums.indptr))
    out.reshape(-1)[owners * out.shape[1] + sums.indices] += sums.data  # each place at most once


def _shift(centroids: Array) -> Array:
    """The mean of the centroids, if it is far from the origin as they are from each other; else zeros."""
    mean: Array = centroids.mean(axis=0)
    moved = centroids - mean
    spread = np.einsum("ij,ij->", moved, moved) / len(centroids)
    return mean if mean @ mean > _NEAR * spread else np.zeros_like(mean)


def _strip(row: Array) -> Array:
    """A row repeated, for as many rows as are worth a loop of numpy."""
    return np.tile(row, max(1, _STRIP // row.size))


def _add_to_rows(rows: Array, strip: Array, out: Array) -> Array:
    """Add to each of (n, m) C-contiguous rows what :func:`_strip` has repeated."""
    n, m = rows.shape
    whole = n - n % (strip.size // m)
    np.add(rows[:whole].reshape(-1, strip.size), strip, out=out[:whole].reshape(-1, strip.size))
    np.add(rows[whole:], strip[:m], out=out[whole:])
    return out
