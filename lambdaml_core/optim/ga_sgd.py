"""GA-SGD: in every round the mini-batch's gradient is averaged over all workers, and all take the same step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.errors import RunError
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.optim.schedule import rate


class GASGD:
    """Mini-batch gradient descent with momentum on F(w) = mean loss + (l2 / 2) ||w||^2, the bias not penalised.

    One round, g being the gradient of F over the mini-batches of all ranks together:

        velocity <- momentum * velocity - rate(round) * g
        params   <- params + velocity

    That is the heavy ball of Polyak (1964). ``State.shared`` holds the velocity where there is momentum.
    """

    def __init__(self, options: GASGDOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """One mini-batch."""
        return 1

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """At rest."""
        return State(params, {"velocity": np.zeros_like(params)} if self._options.momentum else {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """One step. Returns ``loss``, the mean loss of the rows of this round before the step, without the penalty.

        A round in which no rank has a row changes nothing; its loss is NaN.

        Raises:
            RunError: the loss is not finite; raised on all ranks alike.
        """
        gradient = w.scratch("gradient", s.params.shape, s.params.dtype)
        totals = w.scratch("totals", (2,), np.float64)  # loss, and rows: whole numbers below 2^53 are exact

        def fill(ready: Callable[[int, int], None]) -> None:
            batch = w.data.batch(w.round)
            totals[:] = w.model.loss_and_gradient(s.params, batch, gradient), batch.n

        w.comm.all_reduce({"gradient": gradient, "totals": totals}, fill=fill)
        loss, rows = totals.tolist()
        if rows == 0:
            return {"loss": math.nan}
        mean_loss = loss / rows
        if not math.isfinite(mean_loss):
            raise RunError(
                f"training diverged: the loss of round {w.round} is {mean_loss}",
                hint="lower optimizer.learning_rate, or scale the features",
            )
        self._step(w, s, gradient, rows)
        return {"loss": mean_loss}

    def _step(self, w: Worker, s: State, gradient: NDArray[Any], rows: float) -> None:
        """Move the parameters; ``gradient`` is the sum of the data term's over the rows, and is overwritten."""
        o, params = self._options, s.params
        number = params.dtype.type  # numpy takes twice as long to combine a small array with a number of Python's
        gradient /= number(rows)
        if o.l2:
            penalised = w.model.penalised(w.data)
            gradient[penalised] += number(o.l2) * params[penalised]
        gradient *= number(rate(o.schedule, o.learning_rate, w.round))
        if o.momentum:
            velocity = s.shared["velocity"]
            velocity *= number(o.momentum)
            velocity -= gradient
            params += velocity
        else:
            params -= gradient
