"""How a run tells of itself while it goes on: rank 0 writes its progress and the events of the run to the store."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from lambdaml_core.errors import StorageError
from lambdaml_core.run.spec import PROGRESS, event_key, put_json
from lambdaml_core.run.timing import Clock
from lambdaml_core.run.training import Progress
from lambdaml_core.storage import FullStorage

PERIOD_S = 0.5
_SHOWN = ("loss", "accuracy", "auc")
"""Figures that events and progress always have, None where there is no such figure."""


class Reporter:
    """Writes from a thread of its own, so that no round waits for the store; use as a context manager.

    ``progress.json`` is overwritten about twice a second while there is news; ``events/<number>.json`` are created
    once each: ``rounds`` with what has happened since the last one, and ``epoch`` for every look at the validation
    rows. The progress has the number of events there are, so that whoever follows lists nothing. What could not be
    written is tried again, the last time on leaving, where it is an error unless another one ends the run.

    Args:
        steps_per_round, steps_per_epoch: mini-batches in a round and in a pass: what epochs are counted by.
    """

    def __init__(
        self,
        store: FullStorage,
        *,
        run: str,
        rounds: int,
        steps_per_round: int,
        steps_per_epoch: int,
        clock: Clock,
    ) -> None:
        self._store, self._clock = store, clock
        self._run, self._rounds = run, rounds
        self._steps_per_round, self._steps_per_epoch = steps_per_round, steps_per_epoch
        self._news: deque[Progress] = deque()
        self._events: deque[dict[str, Any]] = deque()  # to be written
        self._latest: Progress | None = None
        self._told: Progress | None = None  # what progress.json says
        self._figures: Mapping[str, float] = {}
        self._written = 0
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._write_regularly, name="reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        with contextlib.nullcontext() if kind is None else contextlib.suppress(StorageError):
            self._write()

    def round(self, progress: Progress) -> None:
        """A round is done."""
        self._news.append(progress)

    def _write_regularly(self) -> None:
        while not self._leave.wait(PERIOD_S):
            with contextlib.suppress(StorageError):  # tried again at the next turn
                self._write()

    def _write(self) -> None:
        news = [self._news.popleft() for _ in range(len(self._news))]
        if news:
            self._take(news)
        while self._events:
            put_json(self._store, event_key(self._written), self._events[0], if_absent=True)
            self._events.popleft()
            self._written += 1
        if self._latest is not None and self._latest is not self._told:
            put_json(self._store, PROGRESS, self._progress(self._latest))
            self._told = self._latest

    def _take(self, news: Sequence[Progress]) -> None:
        """Make events of these rounds."""
        rounds = {
            "first": news[0].round,
            "loss": [number(p.loss) for p in news],
            "seconds": [round(p.seconds, 6) for p in news],
        }
        self._events.append(self._event("rounds", rounds))
        for p in news:
            if p.figures is not None:
                self._figures = p.figures
                epoch = self._epochs(p.round)
                self._events.append(
                    self._event(
                        "epoch",
                        {
                            "epoch": int(epoch) if epoch.is_integer() else epoch,
                            "round": p.round,
                            "seconds": p.seconds,
                            "batch_loss": number(p.loss),
                            **shown(p.figures),
                        },
                    )
                )
        self._latest = news[-1]

    def _epochs(self, round: int) -> float:
        return round * self._steps_per_round / self._steps_per_epoch

    def _event(self, event: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"event": event, "run": self._run, "time_s": time.time(), **values}

    def _progress(self, latest: Progress) -> dict[str, Any]:
        round, seconds = latest.round, latest.seconds
        return {
            "time_s": time.time(),
            "round": round,
            "epochs": self._epochs(round),
            "rounds": self._rounds,
            "rounds_per_s": round / seconds if seconds > 0 else None,
            "train_loss": number(latest.loss),
            "seconds": self._clock.report(),
            "events": self._written,
            **shown(self._figures),
        }


def shown(figures: Mapping[str, float]) -> dict[str, Any]:
    """The figures that are always there, by name, and all of them under ``figures``."""
    said = finite(figures)
    return {**{name: said.get(name) for name in _SHOWN}, "figures": said}


def number(value: float) -> float | None:
    """The number, or None for what JSON cannot say."""
    return float(value) if math.isfinite(value) else None


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON can say them."""
    return {name: number(value) for name, value in figures.items()}
