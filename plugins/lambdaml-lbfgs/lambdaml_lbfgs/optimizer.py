"""Distributed L-BFGS: every rank knows the same history, and the gradient alone is all-reduced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.errors import RunError
from lambdaml_core.optim.base import State, Worker
from lambdaml_lbfgs.descent import WINDOW, Course, Descent
from lambdaml_lbfgs.history import default_length
from lambdaml_lbfgs.objective import Found, look
from lambdaml_lbfgs.options import LBFGSOptions
from lambdaml_lbfgs.search import Search


class LBFGS:
    """L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.5), and OWL-QN (Andrew and Gao 2007) with l1.

    A round is one full pass over all rows and one all-reduce of {gradient, loss, rows}, at the point that the line
    search wants to know of next. What follows from the result all ranks compute alike, from state that they share
    (:class:`~lambdaml_lbfgs.descent.Descent`). ``State.params`` is always the last point that was taken.
    """

    def __init__(self, options: LBFGSOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """A full pass."""
        return steps_per_epoch

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """No history; the first point to look at are the parameters themselves."""
        m, n = self._options.history or default_length(params, self._options.l1), params.size
        shared = {
            "trial": params.copy(),
            "gradient": np.zeros(n),
            "direction": np.zeros(n),
            "moves": np.zeros((m, n), params.dtype),
            "changes": np.zeros((m, n), params.dtype),
            "products": np.zeros(m),
            "diagonal": np.zeros(n),
            "pairs": np.zeros(1, np.int64),
            "search": np.zeros(len(Search._fields)),
            "course": np.zeros(len(Course._fields)),
            "values": np.full(WINDOW, np.inf),
        }
        return State(params, shared, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """Look at one point. Returns figures of ``State.params`` as they are after it:

        ``loss``, the mean loss of all rows; ``objective``, with penalties; ``gradient_norm``, with l1 that of the
        pseudo-gradient; ``step``, the length that was tried, in directions; ``stop`` once there is a reason to: 1, the
        gradient is small; 2, F hardly falls; 3, rounding or a kink leaves no way down.

        Raises:
            RunError: the loss at the start is not finite; raised on all ranks alike.
        """
        found = look(w, self._options, s.shared["trial"])
        if not found.rows:
            return {"loss": math.nan}
        descent = Descent(self._options, w, s)
        if w.round == 0:
            _check_start(found)
            step, stop = 0.0, descent.begin(found)
        else:
            step, stop = descent.search.step, descent.judge(found)
        course = descent.course
        figures = {"loss": course.loss, "objective": course.value, "gradient_norm": course.norm, "step": step}
        return {**figures, "stop": stop} if stop else figures


def _check_start(found: Found) -> None:
    if not (math.isfinite(found.value) and np.isfinite(found.gradient).all()):
        raise RunError(
            f"the loss of the parameters to start from is {found.loss}, or its gradient is not finite",
            hint="scale the features, or start from other parameters",
        )
