"""Following a run by what its rank 0 writes to the store: for its driver, and for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambdaml_core.run.spec import PROGRESS, event_key, get_all_json, reading
from lambdaml_core.storage import FullStorage

Event = Mapping[str, Any]
"""A JSON object with ``event``, ``run`` and ``time_s`` (seconds since 1970)."""

_AT_ONCE = 256  # events in one request, for who joins late


class Once:
    """Leaves out of a run's events what has been told already.

    A replacement of rank 0 goes through rounds that its predecessor has told of, and one that was taken for dead may
    still write: whatever they do, every round and every look comes once, in order.
    """

    def __init__(self) -> None:
        self._round = self._look = 0  # the last that were told

    def __call__(self, event: Event) -> Event | None:
        """The event, or the part of it that is new; None if nothing is."""
        if event["event"] == "rounds":
            return self._rounds(event)
        if event["event"] == "epoch":
            if event["round"] <= self._look:
                return None
            self._look = event["round"]
        return event

    def _rounds(self, event: Event) -> Event | None:
        first, last = event["first"], event["first"] + len(event["loss"]) - 1
        if last <= self._round:
            return None
        skip = max(0, self._round + 1 - first)
        self._round = last
        if not skip:
            return event
        columns = {name: event[name][skip:] for name in ("loss", "seconds")}
        tables = {
            name: {column: values[skip:] for column, values in event[name].items()}
            for name in ("figures", "used")
            if name in event  # not in runs of older versions
        }
        return {**event, **columns, **tables, "first": first + skip}


class Follower:
    """Hands on a run's events in order, each round once, and its progress.

    Args:
        store: prefixed by the run.
        emit: called with each event: ``rounds`` and ``epoch`` as they were written, then ``progress``.
        run: its name, for the events of progress.
    """

    def __init__(self, store: FullStorage, emit: Callable[[Event], None], *, run: str) -> None:
        self._store, self._emit, self._run = store, emit, run
        self._once = Once()
        self._events = 0
        self._round = 0

    def look(self) -> bool:
        """Hand on what is new since the last time. Returns whether anything was.

        Raises:
            StorageError: the store cannot be read; what was not handed on will be, at the next look.
            RunError: what is there is damaged.
        """
        progress = self._read([PROGRESS]).get(PROGRESS)
        if progress is None:
            return False
        news = False
        while self._events < progress["events"]:
            last = min(self._events + _AT_ONCE, progress["events"])
            found = self._read([event_key(number) for number in range(self._events, last)])
            for event in found.values():
                told = self._once(event)
                if told is not None:
                    news = True
                    self._emit(told)
            self._events = last
        if progress["round"] > self._round:  # a replacement of rank 0 has to catch up first
            self._round = progress["round"]
            news = True
            self._emit({"event": "progress", "run": self._run, **progress})
        return news

    def _read(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        with reading(self._run):
            return get_all_json(self._store, keys)
