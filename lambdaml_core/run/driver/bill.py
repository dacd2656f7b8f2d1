"""What a run has cost up to now, and when that is enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from lambdaml_core.errors import LimitPassed
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.records.attempts import newest_generation
from lambdaml_core.run.records.ranks import read_ranks, usd
from lambdaml_core.run.spec import Limits, Spec
from lambdaml_core.storage import FullStorage


def cost_of(store: FullStorage, spec: Spec) -> float:
    """Dollars of a run, as far as its workers have told.

    Args:
        store: prefixed by the run.
    """
    ranks = read_ranks(store, spec.workers, newest_generation(store))
    return math.fsum(usd(rank.totals, spec.usd) for rank in ranks if rank.totals is not None)


class Billed:
    """Adds to the progress of a run that another process drives what it has cost, read once in a heartbeat."""

    def __init__(self, store: FullStorage, spec: Spec, emit: Callable[[Event], None]) -> None:
        self._store, self._spec, self._emit = store, spec, emit
        self._usd, self._read = 0.0, -math.inf

    def __call__(self, event: Event) -> None:
        """An event of the run."""
        if event["event"] != "progress":
            self._emit(event)
            return
        if time.monotonic() - self._read >= (self._spec.recovery.heartbeat_s or 1.0):
            self._usd, self._read = cost_of(self._store, self._spec), time.monotonic()
        self._emit({**event, "cost_usd": self._usd})


class Bill:
    """Adds up what the ranks of a run tell, and holds it to limits, the time from now on."""

    def __init__(self, spec: Spec, limits: Limits) -> None:
        self._run, self._prices, self._limits = spec.run, spec.usd, limits
        self._usd: dict[int, float] = {}
        self._began_s = time.time()  # not a clock that stands still while this machine sleeps

    def take(self, rank: int, told: Mapping[str, Any] | None) -> None:
        """A rank's end, or its last sign of life; None = there is none yet."""
        if told is not None:
            self._usd[rank] = usd(told["totals"], self._prices)

    def usd(self) -> float:
        """Dollars, as far as is told."""
        return math.fsum(self._usd.values())

    def check(self) -> None:
        """See whether it is enough.

        Raises:
            LimitPassed: it is.
        """
        check_cost(self._run, self.usd(), self._limits)
        seconds, most = time.time() - self._began_s, self._limits.seconds
        if most is not None and seconds > most:
            raise LimitPassed(
                f"the run {self._run} was ended: it has taken {seconds:.4g} s, and may take {most:.4g} s",
                hint=f"lambdaml resume {self._run} gives it as much time again, with --max-time SECONDS another",
            )


def check_cost(run: str, usd: float, limits: Limits) -> None:
    """See whether a run has cost enough.

    Raises:
        LimitPassed: it has.
    """
    if limits.cost_usd is not None and usd > limits.cost_usd:
        raise LimitPassed(
            f"the run {run} was ended: it has cost ${usd:.4g}, and may cost ${limits.cost_usd:.4g}",
            hint=f"lambdaml resume {run} --max-cost USD goes on with it",
        )
