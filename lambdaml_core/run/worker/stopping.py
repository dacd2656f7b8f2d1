"""When a run ends before its last round by its loss: low enough, or improving no more."""

from __future__ import annotations

import math

from lambdaml_core.run.spec import PATIENCE, Stop


class LossWatch:
    """Follows the loss from look to look. It sees what a collective gave, so all ranks decide the same.

    Args:
        best: the least loss seen up to now.
        stale: looks in a row without enough improvement, a whole number.
    """

    def __init__(self, stop: Stop, best: float = math.inf, stale: float = 0.0) -> None:
        self._stop, self._best, self._stale = stop, best, stale

    @property
    def memory(self) -> tuple[float, float]:
        """``best`` and ``stale``, for one that goes on from here."""
        return self._best, self._stale

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
