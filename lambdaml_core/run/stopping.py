"""When a run ends before its last round: by its loss, by improving no more, by the clock of rank 0."""

from __future__ import annotations

import math

import numpy as np

from lambdaml_core.comm.base import Communicator
from lambdaml_core.run.spec import PATIENCE, Stop


class LossWatch:
    """Follows the loss from look to look. It sees what a collective gave, so all ranks decide the same."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._best = math.inf
        self._stale = 0  # looks in a row without enough improvement

    def reason(self, loss: float) -> str:
        """Why the run ends after a look that saw this loss; empty where it goes on. NaN is no improvement."""
        target, improvement = self._stop.loss, self._stop.improvement
        if target is not None and loss <= target:
            return "loss"
        if improvement is None:
            return ""
        enough = math.isinf(self._best) or self._best - loss > improvement * abs(self._best)
        self._stale = 0 if enough and not math.isnan(loss) else self._stale + 1
        self._best = min(self._best, math.inf if math.isnan(loss) else loss)
        return "no improvement" if self._stale >= (self._stop.patience or PATIENCE) else ""


class TimeWatch:
    """Ends a run by the clock of rank 0, which tells all whether the time is up and when it will say so again.

    It says so after half of the rounds that would fit in the time left, and after twice as many rounds as are done at
    the latest. So a run of any length is told some dozens of times, and ends within a round or two of its time unless
    rounds become much slower.
    """

    def __init__(self, seconds: float | None, comm: Communicator) -> None:
        self._seconds, self._comm = seconds, comm
        self._next = 1  # round after which it is told again

    def is_up(self, done: int, elapsed: float) -> bool:
        """Whether the run ends after ``done`` rounds; ``elapsed`` seconds count on rank 0 only."""
        if self._seconds is None or done < self._next:
            return False
        left = self._seconds - elapsed
        fitting = left / 2 * done / max(elapsed, 1e-9)
        message = np.array([left <= 0, min(max(fitting, 1), done)], np.int64)
        self._comm.broadcast({"time": message})
        up, pause = message.tolist()
        self._next = done + pause
        return bool(up)
