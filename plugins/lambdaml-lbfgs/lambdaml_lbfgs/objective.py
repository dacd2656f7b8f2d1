"""The objective: its value and gradient on all rows, and what l1 makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.optim.base import Worker
from lambdaml_lbfgs.options import LBFGSOptions

Array = NDArray[Any]


class Found(NamedTuple):
    """What all ranks have found at some parameters; equal on all of them.

    Attributes:
        rows: of all ranks; without any there is nothing else.
        loss: mean loss of all rows.
        value: F, the loss with its penalties.
        gradient: (n,) float64, of F without the l1 penalty; scratch memory.
    """

    rows: float
    loss: float
    value: float
    gradient: Array


def look(w: Worker, options: LBFGSOptions, params: Array) -> Found:
    """One full pass over the rows of all ranks, and one message; sums are kept in float64."""
    gradient = w.scratch("gradient", params.shape, np.float64)
    totals = w.scratch("totals", (2,), np.float64)  # loss, and rows: whole numbers below 2^53 are exact

    def fill(ready: Callable[[int, int], None]) -> None:
        part = w.scratch("part", params.shape, params.dtype)
        gradient[:], totals[:] = 0, 0
        for block in w.data.blocks():
            totals[:] += w.model.loss_and_gradient(params, block, part), block.n
            np.add(gradient, part, out=gradient)

    with np.errstate(over="ignore", invalid="ignore"):  # a step that is far too long: the value tells
        w.comm.all_reduce({"gradient": gradient, "totals": totals}, fill=fill)
        total, rows = totals.tolist()
        gradient /= max(rows, 1)
        penalised = w.model.penalised(w.data)
        weights = params[penalised].astype(np.float64)
        gradient[penalised] += options.l2 * weights
        penalty = options.l2 / 2 * float(weights @ weights) + options.l1 * float(np.abs(weights).sum())
    loss = total / max(rows, 1)
    return Found(rows, loss, loss + penalty, gradient)


def steepest(params: Array, gradient: Array, l1: float, penalised: slice) -> Array:
    """The gradient of F, fresh, (n,) float64.

    With l1, F has a kink where a penalised parameter is 0: the slope there is that towards the side where F falls, and
    0 where it falls to neither (the pseudo-gradient of Andrew and Gao 2007, equation 4).
    """
    slopes = gradient.copy()
    if l1:
        x, g = params[penalised], slopes[penalised]
        g += np.where(x != 0, l1 * np.sign(x), -np.clip(g, -l1, l1))
    return slopes


def sides(params: Array, slopes: Array) -> Array:
    """The orthant to stay in, as signs: that of each parameter, and of one that is 0 that where F falls."""
    return np.where(params != 0, np.sign(params), -np.sign(slopes))
