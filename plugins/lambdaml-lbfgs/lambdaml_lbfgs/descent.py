"""What follows from a look at the objective: numbers of the state and of a collective's result, and nothing else."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.optim.base import State, Worker
from lambdaml_lbfgs.history import History
from lambdaml_lbfgs.objective import Found, sides, steepest
from lambdaml_lbfgs.options import LBFGSOptions
from lambdaml_lbfgs.search import Search, after, begin, falls_enough, too_short

Array = NDArray[Any]

WINDOW = 10
"""Steps over which the decrease of F is looked at: single ones may be short."""

GOES_ON, SMALL_GRADIENT, SMALL_DECREASE, FLOOR = 0.0, 1.0, 2.0, 3.0
"""What the figure ``stop`` says."""

_ROUNDING = 8
"""Units in the last place by which losses computed in the parameters' dtype may be wrong."""


class Course(NamedTuple):
    """Where the descent stands, at ``State.params``; all numbers, so that the state can hold it.

    Attributes:
        loss, value: mean loss, and F.
        norm, first_norm: of the gradient of F, now and at the start.
        steps: how many were taken.
    """

    loss: float
    value: float
    norm: float
    first_norm: float
    steps: float


class Descent:
    """The state machine. A point that was looked at is good, or it is not:

    - it becomes ``State.params``, the history gets a pair, and a new direction its first point;
    - the line search chooses another point along the same direction.

    Where a search fails, the history is forgotten, and a search begins along the steepest descent. Where that fails
    too, no way down is left that can be told from rounding.
    """

    def __init__(self, options: LBFGSOptions, w: Worker, s: State) -> None:
        shared = s.shared
        self._options, self._params = options, s.params
        self._penalised = w.model.penalised(w.data)
        self._trial, self._gradient, self._direction = shared["trial"], shared["gradient"], shared["direction"]
        self._search, self._course, self._values = shared["search"], shared["course"], shared["values"]
        pairs = (shared["moves"], shared["changes"], shared["products"])
        spare = w.scratch("spare", s.params.shape, np.float64)
        self._history = History(*pairs, shared["diagonal"], shared["pairs"], spare)

    @property
    def search(self) -> Search:
        """The line search under way."""
        return Search(*self._search.tolist())

    @property
    def course(self) -> Course:
        """Where the descent stands."""
        return Course(*self._course.tolist())

    def begin(self, found: Found) -> float:
        """The parameters to start from were looked at. Returns why to stop, or 0."""
        return self._arrive(found, 0, None)

    def judge(self, found: Found) -> float:
        """The trial point was looked at: take it, or try another one. Returns why to stop, or 0."""
        o, search = self._options, self.search
        slopes = self._slopes()
        slope = self._slope_at_trial(found, slopes)
        noise = _ROUNDING * float(np.finfo(self._trial.dtype).eps) * abs(search.value)
        enough = falls_enough(search, found.value, slope, noise)
        short = enough and not o.l1 and too_short(search, slope)  # the way along an orthant's faces has its bends
        left = o.tries - int(search.tries) - 1
        if enough and not (short and left):
            self._history.remember(self._way(), found.gradient - self._gradient)
            course = self.course
            return self._arrive(found, int(course.steps) + 1, course.first_norm)
        if left and self._aim(after(search, found.value, slope, short=short, last=left == 1), slopes):
            return GOES_ON
        return self._set_out_anew(slopes)

    def _arrive(self, found: Found, steps: int, first_norm: float | None) -> float:
        """The trial point becomes the parameters."""
        self._params[:], self._gradient[:] = self._trial, found.gradient
        slopes = self._slopes()
        norm = float(np.linalg.norm(slopes))
        first = norm if first_norm is None else first_norm
        self._course[:] = Course(found.loss, found.value, norm, first, steps)
        earlier = float(self._values[steps % WINDOW])
        self._values[steps % WINDOW] = found.value
        if norm <= self._options.tolerance * first:
            return SMALL_GRADIENT
        if earlier - found.value <= self._options.tolerance * abs(found.value):
            return SMALL_DECREASE
        return GOES_ON if self._set_out(slopes) else self._set_out_anew(slopes)

    def _set_out(self, slopes: Array) -> bool:
        """A new direction from the parameters, and the first point along it; returns whether it leads downwards."""
        direction, inside = self._direction, self._penalised
        self._history.descend(slopes, direction)
        if self._options.l1:  # it may not leave the orthant at once: Andrew and Gao 2007, equation 5
            direction[inside][direction[inside] * slopes[inside] >= 0] = 0
        steepest_descent = not len(self._history)
        step = 1 / float(np.linalg.norm(slopes)) if steepest_descent and slopes.any() else 1.0
        slope = float(slopes @ direction)
        return math.isfinite(slope) and self._aim(begin(self.course.value, slope, step), slopes)

    def _set_out_anew(self, slopes: Array) -> float:
        """After a search that failed: the steepest descent, unless that was it."""
        if not len(self._history):
            return FLOOR
        self._history.forget()
        return GOES_ON if self._set_out(slopes) else FLOOR

    def _aim(self, search: Search, slopes: Array) -> bool:
        """Set the point to look at next; returns whether it is another one, and in a direction in which F falls.

        With l1 the way to it is not straight: parameters stay at 0 instead of changing sign (Andrew and Gao 2007,
        equation 6). So the slope at 0 is that of the way that is really taken.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            self._trial[:] = self._params + search.step * self._direction
            if self._options.l1:
                trial = self._trial[self._penalised]
                trial[np.sign(trial) != sides(self._params, slopes)[self._penalised]] = 0
            slope = float(slopes @ self._way()) / search.step
        self._search[:] = search._replace(slope=slope, low_slope=search.low_slope if search.low else slope)
        return slope < 0

    def _slope_at_trial(self, found: Found, slopes: Array) -> float:
        """The derivative of F along the way to the trial point, at its end, by the length of the step.

        The way is within one orthant, where F with l1 is smooth.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            there = found.gradient.copy()
            if self._options.l1:
                there[self._penalised] += self._options.l1 * sides(self._params, slopes)[self._penalised]
            return float(there @ self._way()) / self.search.step

    def _slopes(self) -> Array:
        """The gradient of F at the parameters."""
        return steepest(self._params, self._gradient, self._options.l1, self._penalised)

    def _way(self) -> Array:
        """From the parameters to the trial point, as rounded as they are, in float64."""
        way: Array = np.subtract(self._trial, self._params, dtype=np.float64)
        return way
