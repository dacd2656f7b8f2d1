"""Rows to learn from, the share that each rank has of them, and a model that learns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch
from lambdaml_core.models.logistic import LogisticRegression


class Share:
    """A rank's rows in memory: implements :class:`~lambdaml_core.data.base.Data`.

    Attributes:
        reads: how often rows were asked for.
    """

    def __init__(self, rows: Rows, steps: int) -> None:
        self._all = Batch(rows.x, rows.y, len(rows.y), rows.weights)
        self.rows, self.features, self.classes = len(rows.y), int(rows.x.shape[1]), rows.classes
        self.steps_per_epoch = steps
        self.reads = 0

    def batch(self, step: int) -> Batch:
        """Mini-batch ``step % steps_per_epoch``."""
        self.reads += 1
        t, steps = step % self.steps_per_epoch, self.steps_per_epoch
        lo, hi = t * self.rows // steps, (t + 1) * self.rows // steps
        x, y, _, weights = self._all
        return Batch(x[lo:hi], y[lo:hi], hi - lo, None if weights is None else weights[lo:hi])

    def blocks(self) -> Iterator[Batch]:
        """One full pass, in one block; none where there are no rows."""
        self.reads += 1
        if self.rows:
            yield self._all

    def content(self) -> dict[str, bytes]:
        """All bytes of the rows, by name, to be compared."""
        x, y, _, weights = self._all
        arrays = {"x": x} if isinstance(x, np.ndarray) else {"values": x.data, "columns": x.indices, "ends": x.indptr}
        arrays |= {"y": y} if weights is None else {"y": y, "weights": weights}
        return {name: array.tobytes() for name, array in arrays.items()}


@dataclass(frozen=True)
class Rows:
    """A problem.

    Attributes:
        x: (n, features) float32, a C-contiguous array or a ``csr_matrix`` with int32 indices.
        y: (n,) float32, class numbers 0..classes-1, or numbers to learn.
        classes: how many there are; 0 = ``y`` are numbers to learn.
        weights: (n,) float32; None = 1 for every row.
    """

    x: Any
    y: NDArray[Any]
    classes: int = 2
    weights: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def shares(self, size: int, batch_size: int) -> list[Share]:
        """What each of ``size`` ranks has, as core cuts it."""
        cuts = [rank * len(self) // size for rank in range(1, size)]
        return self.cut(cuts, steps=max(1, -(-len(self) // batch_size)))

    def cut(self, cuts: Sequence[int], steps: int) -> list[Share]:
        """Shares that begin and end at these rows, with so many batches in an epoch."""
        return [Share(self.part(lo, hi), steps) for lo, hi in pairwise([0, *cuts, len(self)])]

    def part(self, lo: int, hi: int) -> Rows:
        """Rows lo to hi, in memory of their own that is aligned as core aligns it."""
        weights = None if self.weights is None else _aligned(self.weights[lo:hi])
        x = self.x[lo:hi]
        return replace(
            self, x=_aligned(x) if isinstance(x, np.ndarray) else x, y=_aligned(self.y[lo:hi]), weights=weights
        )

    def sparse(self) -> Rows:
        """The same with x in compressed rows."""
        return replace(self, x=csr_matrix(self.x))


class Classifier(LogisticRegression):
    """Logistic regression that is scored by its loss alone: figures of classes are far more bytes than these rows."""

    def score(self, params: NDArray[Any], batch: Batch) -> Arrays:
        loss = self.loss_and_gradient(params, batch._replace(weights=None), np.empty_like(params))
        return {"totals": np.array([loss, batch.n])}

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        loss, rows = totals["totals"].tolist()
        return {"loss": loss / rows if rows else math.nan}


def separable(rows: int = 41, features: int = 5) -> Rows:
    """Two classes that a plane parts. The first rows are the farthest from it, so that ranks find unequal losses; no
    number of ranks up to 4 but 1 divides how many there are."""
    rng = np.random.default_rng(41)
    x, normal = rng.standard_normal((rows, features)), rng.standard_normal(features)
    normal /= np.linalg.norm(normal)
    x += 0.3 * np.sign(x @ normal)[:, None] * normal
    margin = x @ normal
    order = np.argsort(-np.abs(margin), kind="stable")
    return Rows(x[order].astype(np.float32), (margin[order] > 0).astype(np.float32))


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    copied = aligned_empty(array.shape, array.dtype)
    copied[...] = array
    return copied
