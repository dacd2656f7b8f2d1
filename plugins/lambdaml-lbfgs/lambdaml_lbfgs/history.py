"""What L-BFGS knows of the curvature: the latest moves, and how they have changed the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BYTES = 32 << 20
_LEAST, _MOST = 10, 100


def default_length(params: Array, l1: float) -> int:
    """How many pairs to remember where nobody says: rounds are saved by many, up to what a checkpoint should hold.

    But with l1, where old pairs tell of other orthants.
    """
    return _LEAST if l1 else max(_LEAST, min(_MOST, _BYTES // max(1, 2 * params.nbytes)))


class History:
    """A ring of pairs (s, y): parameters have moved by s, and the gradient has changed by y.

    What was before them is remembered as the diagonal of a BFGS matrix, as Gilbert and Lemarechal do (1989, "Some
    numerical experiments with variable-storage quasi-Newton algorithms", section 4): parameters differ in scale.

    Args:
        moves, changes: (m, n), of the parameters' dtype; the pairs, the oldest overwritten by the newest.
        products: (m,) float64, s'y of each.
        diagonal: (n,) float64, of an approximation of the Hessian.
        count: (1,) int64, pairs remembered since the last :meth:`forget`.
        spare: (n,) float64; its contents mean nothing.
    """

    def __init__(
        self, moves: Array, changes: Array, products: Array, diagonal: Array, count: Array, spare: Array
    ) -> None:
        self._moves, self._changes, self._products = moves, changes, products
        self._diagonal, self._count, self._spare = diagonal, count, spare

    def __len__(self) -> int:
        return min(int(self._count[0]), len(self._moves))

    def forget(self) -> None:
        """All pairs."""
        self._count[0] = 0

    def remember(self, move: Array, change: Array) -> None:
        """This pair; but not one whose curvature is not above what rounding makes (H would not stay positive)."""
        at = int(self._count[0]) % len(self._moves)
        s, y = self._moves[at], self._changes[at]
        s[:], y[:] = move, change
        product = self._dot(s, change)
        least = float(np.finfo(s.dtype).eps) * float(np.linalg.norm(move)) * float(np.linalg.norm(change))
        if product > least:
            self._products[at] = product
            self._update_diagonal(move, change, product)
            self._count[0] += 1

    def descend(self, gradient: Array, out: Array) -> None:
        """Write -H g into ``out`` (float64), by the two loops of Nocedal and Wright, algorithm 7.4.

        H starts from the inverse of the diagonal, and is the identity where there is no pair.
        """
        np.negative(gradient, out=out)
        count, m = int(self._count[0]), len(self._moves)
        newest_first = [(count - 1 - i) % m for i in range(len(self))]
        shares = {}
        for i in newest_first:
            shares[i] = self._dot(self._moves[i], out) / self._products[i]
            self._add(-shares[i], self._changes[i], out)
        if newest_first:
            out /= self._diagonal
        for i in reversed(newest_first):
            self._add(shares[i] - self._dot(self._changes[i], out) / self._products[i], self._moves[i], out)

    def _update_diagonal(self, s: Array, y: Array, product: float) -> None:
        """That of the BFGS update of a diagonal matrix B (Nocedal and Wright 6.19), once it is scaled to y'H y = s'y.

        B stays positive: (B s)^2 / s'B s takes at most all of an element, and only of one that y adds to.
        """
        b = self._diagonal
        if not self._count[0]:
            b[:] = 1
        b *= float(y @ (y / b)) / product
        bs = b * s
        least = float(np.finfo(b.dtype).eps) * b
        b -= bs * bs / float(s @ bs)
        b += y * y / product
        np.maximum(b, least, out=b)

    def _dot(self, row: Array, x: Array) -> float:
        """In float64."""
        self._spare[:] = row
        return float(self._spare @ x)

    def _add(self, times: float, row: Array, out: Array) -> None:
        np.multiply(row, times, out=self._spare)
        out += self._spare
