"""What all ranks compute alike, from what they share and one all-reduced message: z, residuals, and rho.

Sums are over the ranks that have rows, n of them. Before the collective each has w, by its own problem, and

    e = relaxation (w - z) + u

whose sum is the message. Everything is taken relative to the z that the round began with, which all know, so that near
the end small numbers are added and not the small differences of large ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_admm.options import ADMMOptions

Array = NDArray[np.float64]

_MOST_CHANGE = 10.0
"""What rho is multiplied or divided by at most, in one round."""


class Sums(NamedTuple):
    """What travels beside the sum of e: sums of numbers of the ranks.

    Attributes:
        loss: of all rows, at the z that the round began with.
        apart: ||w - z||^2.
        local: ||w||^2.
        message: ||e||^2.
    """

    loss: float
    apart: float
    local: float
    message: float


class Residuals(NamedTuple):
    """How far ranks are from agreeing, and z from rest (Boyd et al. 2011, section 3.3.1), over all ranks together.

    Attributes:
        primal: r, the root of the sum of ||w - z||^2 over ranks, with the new z.
        dual: s = rho sqrt(n) ||z - z_old||.
        primal_scale: what r is relative to: the larger of the root of the sum of ||w||^2 and sqrt(n) ||z||.
        dual_scale: what s is relative to: rho times the root of the sum of ||u||^2.
    """

    primal: float
    dual: float
    primal_scale: float
    dual_scale: float

    def small(self, o: ADMMOptions, numbers: int) -> bool:
        """Whether both are within their tolerances; ``numbers`` is n times the number of parameters."""
        absolute = math.sqrt(numbers) * o.eps_abs
        return (
            self.primal <= absolute + o.eps_rel * self.primal_scale
            and self.dual <= absolute + o.eps_rel * self.dual_scale
        )

    def correction(self, ratio: float) -> float:
        """What rho should be multiplied by; 1 where neither relative residual is ``ratio`` times the other.

        Boyd et al., section 3.4.1, compare residuals as they are, whose ratio changes with the units of features and
        of the loss; relative ones, and a factor that is the root of their ratio, are those of Wohlberg 2017 ("ADMM
        penalty parameter selection by residual balancing", equations 23 and 27).
        """
        primal, dual = self.primal * self.dual_scale, self.dual * self.primal_scale
        if not math.isfinite(primal + dual) or max(primal, dual) <= ratio * min(primal, dual):
            return 1.0
        if primal > dual:
            return min(math.sqrt(primal / dual), _MOST_CHANGE) if dual else _MOST_CHANGE
        return max(math.sqrt(primal / dual), 1 / _MOST_CHANGE)


def proximal(at: Array, l1: float, l2: float, weight: float, penalised: slice) -> Array:
    """argmin over z of l1 ||z||_1 + (l2/2) ||z||^2 + (weight/2) ||z - at||^2, the penalties of a part of z only.

    Shrunk by ``weight / (l2 + weight)`` after a soft threshold at ``l1 / weight``: exact zeros within it.
    """
    z = at.copy()
    inside = z[penalised]
    inside -= np.clip(inside, -l1 / weight, l1 / weight)
    inside *= weight / (l2 + weight)
    return z


def residuals(
    z: Array, change: Array, message: Array, duals: Array, sums: Sums, rho: float, n: int, relaxation: float
) -> Residuals:
    """Norms over all ranks, from sums.

    With d = w - z_old: the sum of d is (message - duals) / relaxation, and

        sum ||w - z||^2 = sum ||d||^2 - 2 change . sum d + n ||change||^2
        sum ||u||^2     = sum ||e||^2 - 2 change . sum e + n ||change||^2

    Args:
        z: (p,) the new one; ``change`` is what it has changed by.
        message: (p,) the sum of e.
        duals: (p,) the sum of u before the round.
    """
    moved = float(change @ change)
    apart = sums.apart - 2 * float(change @ (message - duals)) / relaxation + n * moved
    scaled = sums.message - 2 * float(change @ message) + n * moved
    return Residuals(
        primal=math.sqrt(max(apart, 0.0)),
        dual=rho * math.sqrt(n * moved),
        primal_scale=math.sqrt(max(sums.local, n * float(z @ z))),
        dual_scale=rho * math.sqrt(max(scaled, 0.0)),
    )
