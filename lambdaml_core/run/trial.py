"""A storage in use for a moment: values that are put, got and deleted again, and how long that takes."""

from __future__ import annotations

import math
import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from lambdaml_core.storage import FullStorage
from lambdaml_core.storage.base import Storage, StorageCaps
from lambdaml_core.storage.layers import Complete, Prefix
from lambdaml_core.storage.retry import FIRST_S, Retry

_SMALL, _REPEATS, _SMALL_S = 1 << 10, 20, 2.0
_LARGE = (256 << 10, 1 << 20, 4 << 20, 16 << 20)
_TRANSFERS = 3  # of the least size, which is so brief that anything disturbs it: the quickest counts
_ENOUGH_S = 0.25  # a transfer that takes so long is long enough to tell the bandwidth by


class Stopped(Exception):
    """Nobody waits for the figures any more."""


def briefly(storage: Storage) -> FullStorage:
    """A storage as its author wrote it, for a first contact: what fails in passing is soon given up."""
    return Retry(Complete(storage), deadline_s=FIRST_S)


class Trial:
    """A storage in use, below a random prefix; :meth:`clean` deletes all that was put there.

    Args:
        word: what the prefix begins with.
        stop: set where nobody waits any more.

    Attributes:
        name: the prefix.
    """

    def __init__(self, storage: FullStorage, word: str, stop: threading.Event | None = None) -> None:
        self.name = f"{word}-{secrets.token_hex(6)}"
        self.storage = Prefix(storage, self.name)
        self._stop = stop
        self._put: list[str] = []

    def put(self, key: str, value: bytes, *, if_absent: bool = False) -> bool:
        """As the storage; the key is remembered.

        Raises:
            Stopped: it was told to.
        """
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        self._put.append(key)
        return self.storage.put(key, [value], if_absent=if_absent)

    def clean(self) -> None:
        """Delete every key."""
        keys, self._put = list(dict.fromkeys(self._put)), []
        self.storage.delete(keys)


class Speed(NamedTuple):
    """Median seconds of a put and a get of 1 KiB, and those of the quickest transfer of ``bytes``."""

    put_s: float
    get_s: float
    bytes: int
    bytes_put_s: float
    bytes_get_s: float

    def stated(self, caps: StorageCaps, *, over: bool) -> StorageCaps:
        """The caps with this latency and bandwidth.

        Args:
            over: also where they state others.
        """
        latency_s = (self.put_s + self.get_s) / 2
        moved_s = max((self.bytes_put_s + self.bytes_get_s) / 2 - latency_s, 1e-9)
        return replace(
            caps,
            latency_s=latency_s if over else caps.latency_s or latency_s,
            bytes_per_s=self.bytes / moved_s if over else caps.bytes_per_s or self.bytes / moved_s,
        )


def measure(trial: Trial, most: int | None = None) -> Speed:
    """Time small values and one that is large enough; takes some seconds at most, but of a very slow storage.

    Args:
        most: bytes of the large one, if more than the least; None = as many as it takes.

    Raises:
        StorageError: a request failed.
        Stopped: as :meth:`Trial.put`.
    """
    puts, gets = _times(trial, os.urandom(_SMALL))
    return Speed(statistics.median(puts), statistics.median(gets), *_transfer(trial, most))


def _times(trial: Trial, value: bytes) -> tuple[list[float], list[float]]:
    puts: list[float] = []
    gets: list[float] = []
    give_up = time.monotonic() + _SMALL_S
    for n in range(_REPEATS):
        puts.append(_timed(lambda n=n: trial.put(f"small/{n}", value)))  # type: ignore[misc]
        gets.append(_timed(lambda n=n: trial.storage.get(f"small/{n}")))  # type: ignore[misc]
        if time.monotonic() > give_up:
            break
    return puts, gets


def _transfer(trial: Trial, most: int | None) -> tuple[int, float, float]:
    """Bytes, and the seconds to put and to get them: the first size that takes long enough, or the largest."""
    largest = trial.storage.caps.max_value_bytes
    sizes = [size for size in _LARGE if largest is None or size <= largest] or [largest or _SMALL]
    if most is not None:
        sizes = [sizes[0], *(size for size in sizes[1:] if size <= most)]
    for size in sizes:
        value = os.urandom(size)
        put_s = get_s = math.inf
        for _ in range(_TRANSFERS if size == sizes[0] else 1):
            put_s = min(put_s, _timed(lambda: trial.put("large", value)))  # noqa: B023  (called at once)
            get_s = min(get_s, _timed(lambda: bytes(trial.storage.get("large"))))
        if put_s + get_s > _ENOUGH_S:
            break
    return size, put_s, get_s


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-9)
