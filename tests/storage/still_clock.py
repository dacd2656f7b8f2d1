"""A clock for what pauses: no test waits, and no machine is too slow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from lambdaml_core.errors import KeyNotFound


class Clock:
    """Time that passes while somebody sleeps, and never else."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def took(self, work: Callable[[], object]) -> float:
        """Seconds."""
        began = self.now
        with contextlib.suppress(KeyNotFound):
            work()
        return self.now - began
