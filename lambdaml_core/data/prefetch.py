"""Loading in the background, in order: the next piece is fetched while the one before it is taken in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from lambdaml_core.errors import DataError

Item = TypeVar("Item")
Value = TypeVar("Value")


class Prefetch(Generic[Item, Value]):
    """Threads that load items one after the other; whoever needs something waits for just that.

    What was taken in before an item that failed stays good, so that what a caller gets, rows or the error, depends on
    nothing but what it asks for.

    Args:
        items: what to load, in order; at most two are in memory at a time.
        fetch: brings one item.
        take: takes in what was fetched; returns how much is ready with it.
        waiting: entered around each wait that is not over at once, in the thread that waits.
    """

    def __init__(
        self,
        items: Sequence[Item],
        fetch: Callable[[Item], Value],
        take: Callable[[Item, Value], int],
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._waiting = waiting
        self._changed = threading.Condition()
        self._ready = 0
        self._error: Exception | None = None
        self._closed = False
        # given to the thread and not kept: they may refer to what owns this object, and rows should not wait for the
        # collection of cycles
        self._thread = threading.Thread(target=self._load, args=(items, fetch, take), name="lambdaml-load", daemon=True)
        if items:
            self._thread.start()

    def need(self, amount: int) -> None:
        """Return once so much is ready.

        Raises:
            DataError: closed before it was.
            Exception: what fetching or taking in raised, each time.
        """
        if self._ready >= amount:
            return
        with self._waiting(), self._changed:
            self._changed.wait_for(lambda: self._ready >= amount or self._error or self._closed)
        if self._ready >= amount:
            return
        raise self._error or DataError("the rows were closed before they were loaded")

    def close(self) -> None:
        """Load no further; returns when the requests that are under way have ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _load(self, items: Sequence[Item], fetch: Callable[[Item], Value], take: Callable[[Item, Value], int]) -> None:
        fetching = _Fetching(fetch, items[0])
        try:
            for n, item in enumerate(items):
                value = fetching.result()
                if self._closed:
                    return
                if n + 1 < len(items):
                    fetching = _Fetching(fetch, items[n + 1])
                self._announce(take(item, value))
        except Exception as e:  # noqa: BLE001  (raised by whoever needs what is missing)
            with self._changed:
                self._error = e
                self._changed.notify_all()
        finally:
            fetching.join()

    def _announce(self, ready: int) -> None:
        with self._changed:
            self._ready = ready
            self._changed.notify_all()


class _Fetching(threading.Thread, Generic[Item, Value]):
    """One item on its way."""

    def __init__(self, fetch: Callable[[Item], Value], item: Item) -> None:
        super().__init__(name="lambdaml-fetch", daemon=True)
        self._fetch, self._item = fetch, item
        self._value: list[Value] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value.append(self._fetch(self._item))
        except Exception as e:  # noqa: BLE001  (raised by result)
            self._error = e

    def result(self) -> Value:
        self.join()
        if self._error is not None:
            raise self._error
        return self._value.pop()
