"""Channels for tests, and ranks that run on them in threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import DeadlineExpired, KeyNotFound, LambdaMLError, ValueTooLarge
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.layers import Complete, FullStorage, Layer
from lambdaml_core.storage.memory import MemoryStorage

T = TypeVar("T")
PATIENCE_S = 240.0
_names = itertools.count()


def memory() -> FullStorage:
    """A channel of its own."""
    return Complete(MemoryStorage(StorageURL.parse(f"memory://comm-{next(_names)}"), NoOptions()))


def at_once(size: int, work: Callable[[int], T]) -> list[T | LambdaMLError]:
    """``work(rank)`` in a thread for each rank: what it returned, or the typed error that it raised."""
    futures = [Future[T | LambdaMLError]() for _ in range(size)]

    def run(rank: int) -> None:
        try:
            futures[rank].set_result(work(rank))
        except LambdaMLError as e:
            futures[rank].set_result(e)
        except BaseException as e:  # noqa: BLE001 - raised again below
            futures[rank].set_exception(e)

    for rank in range(size):
        threading.Thread(target=run, args=(rank,), daemon=True).start()
    return [future.result(PATIENCE_S) for future in futures]


def all_well(size: int, work: Callable[[int], T]) -> list[T]:
    """As :func:`at_once`; an error of any rank is raised."""
    results = []
    for outcome in at_once(size, work):
        if isinstance(outcome, LambdaMLError):
            raise outcome
        results.append(outcome)
    return results


def until_one_fails(comms: Sequence[Engine], work: Callable[[int], T]) -> list[T | LambdaMLError]:
    """As :func:`at_once`; once a rank has failed, the deadlines of the others expire."""
    failed = threading.Event()

    def expire() -> None:
        if failed.is_set():
            raise DeadlineExpired("another rank has failed")

    def watched(rank: int) -> T:
        try:
            return work(rank)
        except LambdaMLError:
            failed.set()
            raise

    for comm in comms:
        comm._interrupt = expire
    return at_once(len(comms), watched)


def engines(channel: FullStorage, size: int, **settings: Any) -> list[Engine]:
    """One for each rank."""
    return [Engine(channel, rank=rank, size=size, **{"deadline_s": PATIENCE_S, **settings}) for rank in range(size)]


class Untouchable(Layer):
    """Whoever asks for anything fails."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("put", "get", "delete", "put_many", "get_many", "list", "intact"):
            raise AssertionError(f"the channel was used: {name}")
        return super().__getattribute__(name)


class Plain:
    """A storage as a plugin author would begin: nothing but put, get and delete."""

    caps = StorageCaps(scope="process", creates_once=True, evicts=False, checksums=True)

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        with self._lock:
            if if_absent and key in self.values:
                return False
            self.values[key] = b"".join(data)
            return True

    def get(self, key: str) -> bytes:
        try:
            return self.values[key]
        except KeyError as e:
            raise KeyNotFound(key) from e

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.values.pop(key, None)

    def close(self) -> None:
        pass


class SmallValues(Layer):
    """Takes no value above a limit, and says so."""

    def __init__(self, inner: FullStorage, limit: int) -> None:
        super().__init__(inner)
        self.limit, self.largest = limit, 0

    @property
    def caps(self) -> StorageCaps:
        return replace(self.inner.caps, max_value_bytes=self.limit)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        for key, parts in items.items():
            size = sum(memoryview(part).nbytes for part in parts)
            self.largest = max(self.largest, size)
            if size > self.limit:
                raise ValueTooLarge(f"{key} has {size} bytes")
        return self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)


class Forgetful(Layer):
    """A storage that drops the first value under each key that it has a mind to drop, and may own to it.

    Nobody ever sees such a value: a rank that waits for it could else read it before it is dropped.
    """

    def __init__(self, inner: FullStorage, drops: Callable[[str], bool], evicts: bool = True) -> None:
        super().__init__(inner)
        self._evicts = evicts
        self.dropped: set[str] = set()
        self._drops = drops

    @property
    def caps(self) -> StorageCaps:
        return replace(self.inner.caps, evicts=self._evicts)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        unlucky = {key for key in items if self._drops(key)} - self.dropped
        self.dropped |= unlucky
        kept = {key: data for key, data in items.items() if key not in unlucky}
        return [*unlucky, *self.inner.put_many(kept, if_absent=if_absent, ttl_s=ttl_s)]


class Recorder(Layer):
    """Remembers which keys were created."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.created: list[str] = []
        self.got: list[str] = []

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        created = self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)
        self.created += created
        return created

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        found = self.inner.get_many(keys, wait_s=wait_s)
        self.got += found
        return found
