"""How a run tells of itself while it goes on: rank 0 writes its progress and the events of the run to the store."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lambdaml_core.errors import StorageError
from lambdaml_core.run.spec import PROGRESS, event_key, get_all_json, get_json, put_json
from lambdaml_core.run.worker.totals import Used
from lambdaml_core.run.worker.training import Progress
from lambdaml_core.storage import FullStorage

PERIOD_S = 0.5
_READ = 64  # events that are read at once
_SHOWN = ("loss", "accuracy", "auc")
"""Figures that events and progress always have, None where there is no such figure."""


class _Done(NamedTuple):
    """A round, and what rank 0 had used by its end."""

    progress: Progress
    used: Used


class Reporter:
    """Writes from a thread of its own, so that no round waits for the store; use as a context manager.

    ``progress.json`` is overwritten about twice a second while there is news; ``events/<number>.json`` are created
    once each: ``rounds`` with what has happened since the last one, and ``epoch`` for every look at the validation
    rows. The progress has the number of events there are, so that whoever follows lists nothing. What could not be
    written is tried again, the last time on leaving, where it is an error unless another one ends the run.

    ``rounds`` has columns: the losses, the seconds, ``figures`` by name (None = not finite, or not told of this round),
    and what rank 0 had ``used`` by the end of each round.

    However many attempts of rank 0 there are, and even two at once, each round is told once and in order: what is
    stored under a number counts, and is not told again.

    Args:
        seconds: what to say in ``progress.json`` of where the time went.
        used: what rank 0 has used up to now; asked at every round.
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
        seconds: Callable[[], Mapping[str, float]],
        used: Callable[[], Used],
    ) -> None:
        self._store, self._seconds, self._used = store, seconds, used
        self._run, self._rounds = run, rounds
        self._steps_per_round, self._steps_per_epoch = steps_per_round, steps_per_epoch
        self._news: deque[_Done] = deque()  # not all told
        self._number = 0  # of the next event
        self._told = {"rounds": 0, "epoch": 0}  # up to which round, by event
        self._shown = shown({})
        self._latest: Progress | None = None
        self._said: Progress | None = None  # by progress.json
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._write_regularly, name="reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        with contextlib.nullcontext() if kind is None else contextlib.suppress(StorageError):
            self.flush()

    def go_on(self) -> None:
        """Go on where an earlier attempt has stopped; to be called before anything is told."""
        keys = sorted(self._store.list("events/"))
        self._number = len(keys)
        wanted = set(self._told)
        for end in range(len(keys), 0, -_READ):
            for event in reversed(get_all_json(self._store, keys[max(0, end - _READ) : end]).values()):
                if event["event"] in wanted:
                    wanted.remove(event["event"])
                    self._take(event)
            if not wanted:
                break

    def round(self, progress: Progress) -> None:
        """A round is done."""
        self._news.append(_Done(progress, self._used()))

    def flush(self) -> None:
        """Write what is to be told up to now.

        Raises:
            StorageError: not all could be written; it will be tried again.
        """
        with self._lock:
            self._write()

    def _write_regularly(self) -> None:
        while not self._leave.wait(PERIOD_S):
            with contextlib.suppress(StorageError):  # tried again at the next turn
                self.flush()

    def _write(self) -> None:
        news = list(self._news)
        while (event := self._untold(news)) is not None:
            key = event_key(self._number)
            if not put_json(self._store, key, event, if_absent=True):
                event = get_json(self._store, key)  # of another attempt, or this one if it was stored after all
            self._take(event)
            self._number += 1
        for self._latest, _ in news:
            self._news.popleft()
        latest = self._latest
        if latest is not None and latest is not self._said and latest.round >= self._told["rounds"]:
            put_json(self._store, PROGRESS, self._progress(latest))
            self._said = latest

    def _take(self, event: Mapping[str, Any]) -> None:
        """What this stored event tells needs not be told."""
        if event["event"] == "rounds":
            self._told["rounds"] = event["first"] + len(event["loss"]) - 1
        else:
            self._told["epoch"] = event["round"]
            self._shown = {name: event[name] for name in self._shown}

    def _untold(self, news: Sequence[_Done]) -> dict[str, Any] | None:
        """The next event; None where all is told."""
        rounds = [done for done in news if done.progress.round > self._told["rounds"]]
        if rounds:
            return self._event("rounds", _columns(rounds))
        for p, _ in news:
            if p.figures is not None and p.round > self._told["epoch"]:
                epoch = self._epochs(p.round)
                values = {
                    "epoch": int(epoch) if epoch.is_integer() else epoch,
                    "round": p.round,
                    "seconds": p.seconds,
                    "batch_loss": number(p.loss),
                    "round_figures": finite(p.round_figures),
                    **shown(p.figures),
                }
                return self._event("epoch", values)
        return None

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
            "round_figures": finite(latest.round_figures),
            "seconds": dict(self._seconds()),
            "events": self._number,
            **self._shown,
        }


def _columns(rounds: Sequence[_Done]) -> dict[str, Any]:
    """What an event tells of rounds that follow each other: a value of each round under every name."""
    progress, used = zip(*rounds, strict=True)
    figures = [finite(p.round_figures) for p in progress]
    names = dict.fromkeys(name for each in figures for name in each)
    return {
        "first": progress[0].round,
        "loss": [number(p.loss) for p in progress],
        "seconds": [round(p.seconds, 6) for p in progress],
        "figures": {name: [each.get(name) for each in figures] for name in names},
        "used": {name: list(column) for name, column in zip(Used._fields, zip(*used, strict=True), strict=True)},
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
