"""How a run tells of itself while it goes on: rank 0 writes its progress and the events of the run to the store."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from lambdaml_core.errors import StorageError
from lambdaml_core.run.spec import PROGRESS, event_key, put_json
from lambdaml_core.run.timing import Clock
from lambdaml_core.run.training import Progress
from lambdaml_core.storage import FullStorage

PERIOD_S = 0.5


class Reporter:
    """Writes from a thread of its own, so that no round waits for the store; use as a context manager.

    ``progress.json`` is overwritten about twice a second while there is news; ``events/<number>.json`` are created
    once each. The progress has the number of events there are, so that whoever follows lists nothing. What could not
    be written is tried again, the last time on leaving, where it is an error.
    """

    def __init__(self, store: FullStorage, *, run: str, rounds: int, steps_per_epoch: int, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._run, self._rounds, self._steps = run, rounds, steps_per_epoch
        self._latest: Progress | None = None
        self._figures: dict[str, float | None] = {}
        self._events: deque[dict[str, Any]] = deque()
        self._written = 0
        self._began = time.monotonic()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._write_regularly, name="reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        if kind is None:
            self._write()

    def round(self, progress: Progress) -> None:
        """A round is done."""
        if progress.figures is not None:
            epoch = progress.round / self._steps
            figures = {"loss": None, "accuracy": None, "auc": None} | finite(progress.figures)
            self._events.append(
                {
                    "event": "epoch",
                    "run": self._run,
                    "time_s": time.time(),
                    "epoch": int(epoch) if epoch.is_integer() else epoch,
                    "round": progress.round,
                    "batch_loss": number(progress.loss),
                    **figures,
                }
            )
            self._figures = figures
        self._latest = progress

    def _write_regularly(self) -> None:
        shown = None
        while not self._leave.wait(PERIOD_S):
            if self._latest is not shown:
                shown = self._latest
                with contextlib.suppress(StorageError):  # tried again at the next turn
                    self._write()

    def _write(self) -> None:
        latest = self._latest
        if latest is None:
            return
        while self._events:
            put_json(self._store, event_key(self._written), self._events[0], if_absent=True)
            self._events.popleft()
            self._written += 1
        elapsed = time.monotonic() - self._began
        value = {
            "time_s": time.time(),
            "round": latest.round,
            "epochs": latest.round / self._steps,
            "rounds": self._rounds,
            "rounds_per_s": latest.round / elapsed if elapsed > 0 else None,
            "train_loss": number(latest.loss),
            "seconds": self._clock.report(),
            "events": self._written,
            **self._figures,
        }
        put_json(self._store, PROGRESS, value)


def number(value: float) -> float | None:
    """The number, or None for what JSON cannot say."""
    return float(value) if math.isfinite(value) else None


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON can say them."""
    return {name: number(value) for name, value in figures.items()}
