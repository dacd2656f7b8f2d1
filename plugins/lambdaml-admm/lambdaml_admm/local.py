"""A worker's own problem: minimise f(w) + (rho/2) ||w - v||^2, where f is its rows' part of the mean loss of all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lambdaml_admm.options import ADMMOptions
from lambdaml_core.optim.base import Worker

Array = NDArray[np.float64]

_PASSES, _SCANS = 100, 10
"""Passes of L-BFGS at most, and of mini-batches, where ``local_epochs`` says nothing."""

_PAIRS = 30
"""That L-BFGS estimates the curvature from: a pass over the rows costs more than they do."""


def local_epochs(o: ADMMOptions) -> int:
    """Passes over a worker's own rows in a round, at most or exactly."""
    return o.local_epochs or (_PASSES if o.local == "lbfgs" else _SCANS)


def total_loss(w: Worker, params: Array, gradient: Array) -> float:
    """The sum of losses of this rank's rows, and its gradient: one full pass, in float64.

    Models compute in the dtype of the parameters that they are given. In float32 the line searches of L-BFGS end
    where differences of the loss drown in its rounding, long before the local problem is solved well enough.
    """
    gradient[:] = 0
    part = w.scratch("part", params.shape, np.float64)
    loss = 0.0
    for block in w.data.blocks():
        loss += w.model.loss_and_gradient(params, block, part)
        gradient += part
    return loss


def by_lbfgs(w: Worker, o: ADMMOptions, mine: Array, near: Array, rho: float, rows: int) -> None:
    """Full passes, until the largest element of the gradient is ``local_tolerance`` of what it began with.

    It begins at the solution of the round before, whose gradient is rho times what ``near`` has moved by since: what is
    left undone gets smaller as ranks come to agree (relative errors, as in Eckstein and Yao 2018).

    Args:
        mine: where to begin; becomes the solution.
        near: what the penalty draws it to.
        rows: of all ranks.
    """
    from scipy.optimize import fmin_l_bfgs_b  # a worker that takes mini-batches needs none of it

    gradient = w.scratch("gradient", mine.shape, np.float64)

    def objective(params: Array) -> tuple[float, Array]:
        apart = params - near
        loss = total_loss(w, params, gradient) / rows
        return loss + rho / 2 * float(apart @ apart), gradient / rows + rho * apart

    first = float(np.abs(objective(mine)[1]).max(initial=0.0))
    if first and math.isfinite(first):
        mine[:] = fmin_l_bfgs_b(
            objective, mine, m=_PAIRS, factr=0.0, pgtol=o.local_tolerance * first, maxfun=local_epochs(o)
        )[0]


def by_sgd(w: Worker, o: ADMMOptions, mine: Array, near: Array, rho: float, rows: int) -> None:
    """``local_epochs`` scans in mini-batches, as in the paper's experiments, from the solution of the round before.

    With the problem divided by the rank's share of the rows, so that its loss is a mean over rows as in any SGD:

        mine <- argmin over x of g . x + (rho / (2 share)) ||x - near||^2 + ||x - mine||^2 / (2 rate)

    which is the gradient step on the loss and, implicit and so stable for any rho, that on the penalty.

    Args: as of :func:`by_lbfgs`.
    """
    gradient = w.scratch("gradient", mine.shape, np.float64)
    rate = o.learning_rate / math.sqrt(1 + w.round)
    pull = rate * rho * rows / w.data.rows
    steps = local_epochs(o) * w.data.steps_per_epoch
    for t in range(w.round * steps, (w.round + 1) * steps):
        batch = w.data.batch(t)
        if batch.n:
            w.model.loss_and_gradient(mine, batch, gradient)
            mine -= rate / batch.n * gradient
            mine += pull * near
            mine /= 1 + pull
