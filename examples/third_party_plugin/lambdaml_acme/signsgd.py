"""signSGD with majority vote (Bernstein, Wang, Azizzadenesheli and Anandkumar 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_acme.plugin import SignSGDOptions
from lambdaml_core.optim.base import State, Worker


class SignSGD:
    """Every rank votes, for each parameter, for the sign of its gradient; all take a step in the direction that wins.

    A vote is two bytes where a gradient has four, and a rank with wild gradients has one vote like any other. Step
    number t is of size ``learning_rate / sqrt(t + 1)``.
    """

    def __init__(self, options: SignSGDOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """One mini-batch."""
        return 1

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """Nothing but the parameters survives a round."""
        return State(params, {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """One step. Returns ``loss``, the mean over the rows of this round, before the step; NaN of no rows."""
        votes = w.scratch("votes", s.params.shape, np.int16)
        totals = w.scratch("totals", (2,), np.float64)  # loss and rows

        def fill(ready: Callable[[int, int], None]) -> None:  # writes these two and nothing else: replays leave it out
            batch = w.data.batch(w.round)
            gradient = w.scratch("gradient", s.params.shape, s.params.dtype)
            totals[:] = w.model.loss_and_gradient(s.params, batch, gradient), batch.n
            votes[:] = np.sign(gradient)

        w.comm.all_reduce({"votes": votes, "totals": totals}, fill=fill)
        params = s.params  # changed in place: core saves these arrays, and gives them back to a replacement
        params -= self._options.learning_rate / math.sqrt(w.round + 1) * np.sign(votes)
        loss, rows = totals.tolist()  # sums over all rows of all ranks: this is the one division
        return {"loss": loss / rows if rows else math.nan}
