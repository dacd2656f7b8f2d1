"""A live storage under check: laws see a random prefix of it, and every key that they use is noted and deleted."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from lambdaml_core.errors import NotSupported, StorageError
from lambdaml_core.specs import Reference
from lambdaml_core.storage import build_storage, check_key
from lambdaml_core.storage.base import Parts, Storage, StorageCaps
from lambdaml_core.storage.layers import Complete, FullStorage, Layer, Prefix
from lambdaml_core.storage.retry import Retry

_RETRIED_S = 5.0  # a sweep that fails is made once more at the end


class Noted(Layer):
    """Notes each key before a value can be under it."""

    def __init__(self, inner: FullStorage, room: Room) -> None:
        super().__init__(inner)
        self._room = room

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        with self._room.putting([key]):
            return self.inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        with self._room.putting(items):
            return self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)


class Room:
    """A part of the place that one law has, empty at first.

    Attributes:
        prefix: what its keys begin with. It has two words: a storage that takes ``../a`` for a key stays in the place.
    """

    def __init__(self, url: str, reference: Reference, prefix: str, notes: Path) -> None:
        self._url, self._reference, self._notes = url, reference, notes
        self.prefix = prefix
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        self._busy, self._over = 0, False

    def connect(self) -> Storage:
        """A new client, which tries nothing again: the laws are about the plugin alone."""
        storage: FullStorage = Complete(build_storage(self._url, self._reference))
        return Prefix(Noted(storage, self), self.prefix)

    @contextlib.contextmanager
    def putting(self, keys: Iterable[str]) -> Iterator[None]:
        """Note the keys, and hold the room open meanwhile.

        Raises:
            StorageError: the law is over, and has failed: this is a thread that it has left behind.
        """
        with self._lock:
            if self._over:
                raise StorageError("the law that this belongs to has ended")
            new = [key for key in keys if key not in self._noted]
            self._noted.update(new)
            with self._notes.open("a") as file:
                file.writelines(json.dumps(key) + "\n" for key in new)
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def leave(self) -> bool:
        """Nothing may be put any more; whether nothing is on its way either."""
        with self._lock:
            self._over = True
            return self._busy == 0


class Place:
    """What ``prefix`` of a storage holds. Notes are files of this machine: another process can sweep after this one.

    Args:
        prefix: one word that nobody else uses.
        notes: a folder; a law's notes are removed once its keys are.
    """

    def __init__(self, url: str, reference: Reference, prefix: str, notes: Path) -> None:
        self.url = url
        self._reference, self._prefix, self._notes = reference, prefix, notes
        self._numbers = itertools.count()
        self.latency_s: float | None = None
        """Typical seconds of one request; None where it has not answered."""
        self.hangs = False
        """Set where nothing more should be asked of it in this process."""

    def caps(self) -> StorageCaps:
        """What the storage promises."""
        with contextlib.closing(build_storage(self.url, self._reference)) as storage:
            return storage.caps

    def probe(self) -> float:
        """Typical seconds of one request: a put, a get or a delete of a small value, whichever takes longest.

        Raises:
            StorageError: the storage cannot be reached, or used.
        """
        with self.room() as room, contextlib.closing(room.connect()) as storage:
            requests: list[Callable[[], object]] = [
                lambda: storage.put("probe", [b"probe"]),
                lambda: storage.get("probe"),
                lambda: storage.delete(["probe"]),
            ]
            return statistics.median(max(map(_seconds, requests)) for _ in range(3))

    @contextlib.contextmanager
    def room(self) -> Iterator[Room]:
        """An empty part of the place; emptied in the end, unless something is still on its way there."""
        number = next(self._numbers)
        notes = self._notes / str(number)
        room = Room(self.url, self._reference, f"{self._prefix}/{number}", notes)
        try:
            yield room
        finally:
            if room.leave() and notes.exists() and not self.hangs:
                with contextlib.suppress(Exception):  # made once more at the end, where it is told what is left
                    self._sweep([notes])

    def sweep(self) -> list[str]:
        """Delete all that was noted and is not deleted yet; what is left of the place, if it can be listed.

        Raises:
            StorageError: it cannot be deleted.
        """
        self._sweep(self._notes.iterdir())
        with contextlib.closing(self._open()) as storage:
            storage.delete(self._listed(storage))  # what was stored under other keys than those that were put
            return self._listed(storage)

    def _listed(self, storage: FullStorage) -> list[str]:
        whole = f"{self._prefix}/"
        try:
            return [key for key in storage.list(whole) if key.startswith(whole)]
        except NotSupported:
            return []

    def _open(self) -> FullStorage:
        return Retry(Complete(build_storage(self.url, self._reference)), _RETRIED_S)

    def _sweep(self, notes: Iterable[Path]) -> None:
        with contextlib.closing(self._open()) as storage:
            limit = storage.caps.max_key_bytes
            for file in notes:
                keys = [json.loads(line) for line in file.read_text().splitlines()]
                legal = [key for key in keys if _legal(key, limit)]
                storage.delete(legal)
                for key in set(keys) - set(legal):
                    with contextlib.suppress(Exception):  # refused, as it should be: only a broken storage has it
                        storage.delete([key])
                file.unlink()


def _legal(key: str, max_bytes: int) -> bool:
    try:
        check_key(key, max_bytes)
    except StorageError:
        return False
    return True


def _seconds(request: Callable[[], object]) -> float:
    began = time.perf_counter()
    request()
    return time.perf_counter() - began
