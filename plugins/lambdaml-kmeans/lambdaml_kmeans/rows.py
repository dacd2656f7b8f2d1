"""Rows that all ranks choose together, by collectives alone: every rank finds the same ones, in the same order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.optim.base import Worker

Array = NDArray[Any]
Numbers = Callable[[], Array]


class Chosen:
    """The rows with the smallest keys of all ranks, at most so many; those with an infinite key are left out.

    One exchange of ``count`` numbers a rank. What a rank has to look up among its own rows it looks up in ``fill``, so
    that nothing is computed for what a replay finds.

    Args:
        keys: computes the keys of this rank's rows, (n,) float64.

    Attributes:
        size: how many they are.
    """

    def __init__(self, w: Worker, count: int, keys: Numbers) -> None:
        self._w, self._count = w, count

        @functools.cache
        def best() -> tuple[Array, Array]:
            found = keys()
            few = np.argpartition(found, count - 1)[:count] if count < len(found) else np.arange(len(found))
            few = few[np.lexsort((few, found[few]))]
            return few, found[few]

        self._best = best
        table = np.zeros((w.size, count))

        def fill(ready: Callable[[int, int], None]) -> None:
            smallest = best()[1]
            table[w.rank] = np.inf
            table[w.rank, : len(smallest)] = smallest

        w.comm.all_reduce({"keys": table}, fill=fill)
        order = np.argsort(table, axis=None, kind="stable")[:count]
        self._order = order[np.isfinite(table.ravel()[order])]
        self.size = len(self._order)

    def gather(self, columns: Callable[[Array], Array], width: int) -> Array:
        """(size, width) float32: for each chosen row, in the order of the keys, what its rank says of it. One exchange.

        Args:
            columns: for numbers of rows of this rank, (m,), what is to be told of them, (m, width).
        """
        w, told = self._w, np.zeros((self.size, width), np.float32)

        def fill(ready: Callable[[int, int], None]) -> None:
            mine = np.flatnonzero(self._order // self._count == w.rank)
            if len(mine):
                told[mine] = columns(self._best()[0][self._order[mine] % self._count])

        w.comm.all_reduce({"rows": told}, fill=fill)
        return told


def rows_at(w: Worker, wanted: Array) -> Array:
    """(m, features) float32, dense: rows of this rank by their numbers."""
    found = np.zeros((len(wanted), w.data.features), np.float32)
    order = np.argsort(wanted, kind="stable")
    inside, first = wanted[order], 0
    for batch in w.data.blocks():
        lo, hi = np.searchsorted(inside, (first, first + batch.n))
        if lo < hi:
            x = batch.x[inside[lo:hi] - first]
            found[order[lo:hi]] = x if isinstance(x, np.ndarray) else x.toarray()
        first += batch.n
    return found


def weights_of(w: Worker) -> Array:
    """(n,) float64: the weights of this rank's rows."""
    return np.concatenate([np.zeros(0), *(np.ones(b.n) if b.weights is None else b.weights for b in w.data.blocks())])
