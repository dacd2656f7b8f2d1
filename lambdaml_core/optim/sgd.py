"""One step of stochastic gradient descent, and the mean loss that tells whether training diverges."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import SGDOptions
from lambdaml_core.errors import RunError
from lambdaml_core.optim.base import Worker

_PIECE = 1 << 16
"""Elements: what a step reads and writes of so many parameters stays in a core's cache from operation to operation."""


class _Piece(NamedTuple):
    """Views of consecutive parameters and of what belongs to them; ``penalised`` says which of them are."""

    params: NDArray[Any]
    gradient: NDArray[Any]
    velocity: NDArray[Any] | None
    spare: NDArray[Any]
    penalised: slice


class Step:
    """Moves parameters down the gradient of F(w) = mean loss + l1 ||w||_1 + (l2 / 2) ||w||^2, the bias not penalised.

    With g the gradient of the mean loss and of the l2 penalty, r the step size, and m the momentum:

        velocity <- m velocity - r g
        params   <- params + velocity

    which is the heavy ball of Polyak (1964). With l1, parameters then come nearer to 0 by r l1, and stay there if they
    reach it: the proximal step, which gives exact zeros. The velocity is what parameters really moved by, so that the
    optimum of F is where it comes to rest (iPiano, Ochs et al. 2014); were it the gradients' alone, l1 would count
    1 - m times. With ``nesterov`` the parameters are those ahead of the real ones by m velocity, as everywhere where
    gradients are only known of the parameters (Sutskever et al. 2013; with l1, FISTA of Beck and Teboulle 2009): they
    are taken back before the move, and put ahead after it.

    Args:
        params, velocity: changed in place. velocity is None where there is no momentum.
        gradient: where each call finds the sum of the data term's gradient over rows; overwritten.
    """

    def __init__(
        self,
        options: SGDOptions,
        w: Worker,
        params: NDArray[Any],
        gradient: NDArray[Any],
        velocity: NDArray[Any] | None,
    ) -> None:
        self.params, self.gradient = params, gradient
        self._nesterov, self._l1, self._l2 = options.nesterov, options.l1, options.l2
        # numbers are arrays of no dimensions, which numpy combines with small arrays twice as quickly as scalars
        dtype = params.dtype
        self._momentum, self._decay = np.array(options.momentum, dtype), np.array(options.l2, dtype)
        self._rows, self._rate, self._threshold = np.empty((), dtype), np.empty((), dtype), np.empty((), dtype)
        spare = w.scratch("spare", (min(_PIECE, params.size),), dtype)
        first, last, _ = w.model.penalised(w.data).indices(params.size)
        self._pieces = []
        for lo in range(0, params.size, _PIECE):
            hi = min(lo + _PIECE, params.size)
            penalised = slice(max(first - lo, 0), max(min(last, hi) - lo, 0))
            moving = None if velocity is None else velocity[lo:hi]
            self._pieces.append(_Piece(params[lo:hi], gradient[lo:hi], moving, spare[: hi - lo], penalised))

    def __call__(self, rate: float, rows: float) -> None:
        """Take a step of this size; ``rows`` is how many the gradient is the sum of."""
        self._rate[...], self._rows[...], self._threshold[...] = rate, rows, rate * self._l1
        for piece in self._pieces:
            params, gradient, velocity, spare, penalised = piece
            np.divide(gradient, self._rows, gradient)
            if self._l2:
                inside = gradient[penalised]
                np.add(inside, np.multiply(params[penalised], self._decay, spare[penalised]), inside)
            np.multiply(gradient, self._rate, gradient)
            if velocity is None:
                np.subtract(params, gradient, params)
            else:
                np.multiply(velocity, self._momentum, spare)
                if self._nesterov:
                    np.subtract(params, spare, params)
                np.subtract(spare, gradient, velocity)
                np.add(params, velocity, params)
            if self._l1:
                _shrink(piece, self._threshold)
            if self._nesterov and velocity is not None:
                np.add(params, np.multiply(velocity, self._momentum, spare), params)


def _shrink(piece: _Piece, threshold: Any) -> None:
    """Bring the penalised parameters nearer to 0 by the threshold, and those within it to 0."""
    params, excess = piece.params[piece.penalised], piece.spare[piece.penalised]
    np.minimum(params, threshold, out=excess)
    np.maximum(excess, -threshold, out=excess)
    params -= excess
    if piece.velocity is not None:
        velocity = piece.velocity[piece.penalised]
        velocity -= excess


def mean_loss(totals: NDArray[Any], round: int) -> float:
    """The mean loss from the sum of losses and the count of rows, equal on all ranks; NaN of no rows.

    Raises:
        RunError: the loss is not finite; raised on all ranks alike.
    """
    loss, rows = totals.tolist()
    if rows == 0:
        return math.nan
    mean = float(loss / rows)
    if not math.isfinite(mean):
        raise RunError(
            f"training diverged: the loss of round {round} is {mean}",
            hint="lower optimizer.learning_rate, or scale the features",
        )
    return mean
