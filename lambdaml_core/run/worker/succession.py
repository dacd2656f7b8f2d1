"""Time limits: when a worker must leave, and how it hands over to its successor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lambdaml_core.errors import LaunchFailed, RunError
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.run.records.attempts import Handover, handover_key
from lambdaml_core.run.spec import get_all_json, put_json
from lambdaml_core.run.worker.leaving import Moment, TimeUp
from lambdaml_core.storage import FullStorage

_LEAST_MARGIN_S, _MARGIN = 0.5, 0.02  # kept for handing over: in seconds, and as a share of the limit
_LAUNCHES, _PAUSE_S = 3, 0.1


class TimeLimit:
    """How long this process may go on.

    Args:
        remaining_s: until it is ended; infinity where there is no limit.
        now: a clock in seconds.
    """

    def __init__(self, remaining_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = now() + remaining_s
        margin = max(_LEAST_MARGIN_S, _MARGIN * remaining_s) if math.isfinite(remaining_s) else 0.0
        self._leave = self._end - margin
        self._last: tuple[float, float] | None = None
        self._longest_s = 0.0

    def remaining_s(self) -> float | None:
        """Until the process is ended; None where there is no limit."""
        return max(0.0, self._end - self._now()) if math.isfinite(self._end) else None

    def check(self, moment: Moment) -> None:
        """Raise TimeUp when only as much time is left as handing over needs."""
        if self._now() > self._leave:
            raise TimeUp(moment)

    def begin(self, waited_s: float) -> None:
        """The first round begins; so many seconds were spent waiting for others up to now."""
        self._last = (self._now(), waited_s)

    def leaves_no_round(self, waited_s: float) -> bool:
        """A round is done: whether less is left than twice the longest took, without what it waited.

        A wait can be left at any time. If waits counted, one for a successor would make this worker leave early, the
        others would wait for its successor, and so on: workers would do little but start.
        """
        now = self._now()
        if self._last is not None:
            took, waited = now - self._last[0], waited_s - self._last[1]
            self._longest_s = max(self._longest_s, took - waited)
        self._last = (now, waited_s)
        return now + 2 * self._longest_s > self._leave


def hand_over(store: FullStorage, ref: WorkerRef, launcher: Launcher, *, round: int, moment: Moment) -> None:
    """Leave a record of it, and start the successor.

    Args:
        round: rounds done.

    Raises:
        RunError: this attempt and the one before it got nowhere: a round does not fit into the limit.
        LaunchFailed: the successor cannot be started.
    """
    before = get_all_json(store, [handover_key(ref.generation, ref.rank, ref.attempt - 1)])
    last = next(iter(before.values()), None)
    progress = moment != "work" or round > (last["round"] if last else 0)
    if not progress and last and not last["progress"]:
        raise RunError(
            f"two processes in a row reached their time limit in round {round + 1}, which does not fit into it",
            hint="make rounds shorter (fewer local steps, smaller batches, more workers), or allow a longer duration",
        )
    record = Handover(round=round, progress=progress, time_s=time.time())
    put_json(store, handover_key(ref.generation, ref.rank, ref.attempt), record, if_absent=True)
    _launch(launcher, ref._replace(attempt=ref.attempt + 1))


def _launch(launcher: Launcher, ref: WorkerRef) -> None:
    """Start a worker; what comes of one try too many is a duplicate, and ends by itself."""
    for left in reversed(range(_LAUNCHES)):
        try:
            launcher.launch(ref)
            return
        except Exception as e:
            if not left:
                raise LaunchFailed(f"the successor of worker {ref.rank} could not be started: {e}") from e
            time.sleep(_PAUSE_S)
