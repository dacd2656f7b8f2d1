"""Storages that break one law each, and are run by ``test_storage_kit.py``: each must fail the law it names."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from lambdaml_core.errors import KeyNotFound, StorageUnavailable
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts, Storage
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws

NETWORK_S = 1e-4
"""What a step takes on a real service; others come in between."""

names = itertools.count()


class Broken(MemoryStorage):
    """A correct storage for the others to break."""

    law: ClassVar[str]

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(MemoryStorage.put_many(self, {key: data}, if_absent=if_absent))


class NegativeNumbers(Broken):
    law = "test_capabilities_make_sense"
    caps = replace(MemoryStorage.caps, parallel=0)


class ReadsOnce(Broken):
    """One read gives at most 64 KiB."""

    law = "test_what_is_put_is_what_is_got"

    def get(self, key: str) -> bytes:
        return super().get(key)[:65_536]


class CountsItems(Broken):
    """Takes the length of a part for its bytes."""

    law = "test_parts_are_concatenated"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key, [bytes(part)[: len(part)] for part in data], if_absent=if_absent)


class Caches(Broken):
    """A client answers for what another one has replaced."""

    law = "test_put_replaces"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._cache: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        if key not in self._cache:
            self._cache[key] = super().get(key)
        return self._cache[key]


class AlwaysOverwrites(Broken):
    law = "test_if_absent_creates_once"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key, data)


class SwallowsErrors(Broken):
    law = "test_missing_keys_raise_key_not_found"

    def get(self, key: str) -> bytes:
        try:
            return super().get(key)
        except KeyNotFound:
            return b""


class RaisesItsOwnErrors(Broken):
    law = "test_missing_keys_raise_key_not_found"

    def get(self, key: str) -> bytes:
        return self._space.values[key]


class DeletesOnce(Broken):
    law = "test_delete_is_idempotent"

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().get(key)
            super().delete([key])


class DeletesOneBatch(Broken):
    law = "test_delete_takes_many_keys"

    def delete(self, keys: Iterable[str]) -> None:
        super().delete(itertools.islice(keys, 1000))


class KeepsTheCallersBuffer(Broken):
    law = "test_callers_buffer_is_not_the_value"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        created = super().put(key, data, if_absent=if_absent)
        if created and len(data) == 1:
            self._space.values[key] = data[0]  # type: ignore[assignment]
        return created


class ReceivesIntoOneBuffer(Broken):
    """What was read changes with the next read of that size."""

    law = "test_buffer_keeps_its_bytes_or_is_not_intact"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._received: dict[int, bytearray] = {}

    def get(self, key: str) -> memoryview:  # type: ignore[override]
        value = super().get(key)
        received = self._received.setdefault(len(value), bytearray(len(value)))
        received[:] = value
        return memoryview(received).toreadonly()


class StaleViews(Broken):
    """Gives views, uses the memory of deleted values again, and still vouches for the views."""

    law = "test_buffer_keeps_its_bytes_or_is_not_intact"
    free: ClassVar[list[bytearray]] = []

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        created = super().put(key, data, if_absent=if_absent)
        memory = self.free.pop() if self.free else bytearray()
        memory[:] = self._space.values[key]
        self._space.values[key] = memoryview(memory)  # type: ignore[assignment]
        return created

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.free.extend(view.obj for view in self.get_many(keys).values())  # type: ignore[attr-defined]
        super().delete(keys)

    def intact(self, key: str, data: Buffer) -> bool:
        return True


class NeverIntact(Broken):
    """On the safe side, and of no use: a reader would never be done."""

    law = "test_buffer_keeps_its_bytes_or_is_not_intact"

    def intact(self, key: str, data: Buffer) -> bool:
        return False


class LosesLargeValues(Broken):
    """The client library does not wait for the answer."""

    law = "test_largest_value"
    caps = replace(MemoryStorage.caps, max_value_bytes=100_000)

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return sum(map(len, data)) > 100_000 or super().put(key, data, if_absent=if_absent)


class TakesSecondsForADate(Broken):
    law = "test_values_stay_until_their_time"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return (ttl_s is not None and ttl_s < 1) or super().put(key, data, if_absent=if_absent)


class ClosesOnce(Broken):
    law = "test_close_is_idempotent"
    closed = False

    def close(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        self.closed = True


class Flattens(Broken):
    law = "test_keys_do_not_collide"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key.replace("/", "_"), data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        return super().get(key.replace("/", "_"))


class IgnoresCase(Broken):
    law = "test_keys_do_not_collide"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key.lower(), data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        return super().get(key.lower())


class TakesFoldersForValues(Broken):
    """As a folder of files that finds something of the name there already."""

    law = "test_a_folder_is_no_key"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return not any(self.list(f"{key}/")) and super().put(key, data, if_absent=if_absent)


class TakesAnyKey(Broken):
    law = "test_illegal_keys_are_refused"

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._space.values.pop(key, None)


class CutsKeys(Broken):
    law = "test_longest_key"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key[:249], data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        return super().get(key[:249])


class ListsWholeWords(Broken):
    law = "test_list_gives_exactly_the_keys_with_the_prefix"

    def list(self, prefix: str) -> Iterator[str]:
        return super().list(f"{prefix.rstrip('/')}/" if prefix else "")


class ListsOnePage(Broken):
    law = "test_list_is_complete"

    def list(self, prefix: str) -> Iterator[str]:
        return itertools.islice(super().list(prefix), 1000)


class ListsByPosition(Broken):
    """Skips what moves up when keys of an earlier page are deleted."""

    law = "test_listing_can_be_deleted"

    def list(self, prefix: str) -> Iterator[str]:
        at = 0
        while page := list(super().list(prefix))[at : at + 100]:
            yield from page
            at += 100

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            super().delete([key])


class AllOrNothing(Broken):
    law = "test_get_many_gives_those_that_exist"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        found = super().get_many(keys, wait_s=wait_s)
        return found if len(found) == len(keys) else {}


class SaysAllWereStored(Broken):
    law = "test_put_many_stores_all_and_says_which"

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        super().put_many(items, if_absent=if_absent)
        return list(items)


class LooksFirst(Broken):
    """Create-once by looking first and writing then."""

    law = "test_one_of_many_creates"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if if_absent and self.get_many([key]):
            return False
        time.sleep(NETWORK_S)
        return super().put(key, data)


class AppearsEmpty(Broken):
    """The winner's key is there before its value is."""

    law = "test_one_of_many_creates"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        created = super().put(key, [], if_absent=if_absent)
        time.sleep(NETWORK_S)
        return created and super().put(key, data)


class SharesABuffer(Broken):
    """One receive buffer for all threads of a client."""

    law = "test_one_client_serves_many_threads"
    received = b""

    def get(self, key: str) -> bytes:
        self.received = super().get(key)
        time.sleep(NETWORK_S)
        return self.received


class WritesInPlace(Broken):
    law = "test_no_reader_sees_a_torn_value"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        value = b"".join(data)
        old = self._space.values.get(key, b"")
        created = super().put(key, [value[:500], old[500:]], if_absent=if_absent)
        time.sleep(NETWORK_S)
        return created and super().put(key, [value])


class DeletesBeforeItWrites(Broken):
    law = "test_no_reader_sees_a_torn_value"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if not if_absent:
            self.delete([key])
        time.sleep(NETWORK_S)
        return super().put(key, data, if_absent=if_absent)


class ListsTemporaryNames(Broken):
    law = "test_what_is_listed_can_be_read"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        super().put(f"{key}.tmp", data)
        created = super().put(key, data, if_absent=if_absent)
        time.sleep(NETWORK_S)
        self.delete([f"{key}.tmp"])
        return created


class ZeroMeansForEver(Broken):
    law = "test_no_wait_returns"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys, wait_s=wait_s or 1e6)


class StartsAgainWhenWoken(Broken):
    """Waits the whole time again after every change, in milliseconds."""

    law = "test_a_wait_ends"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys, wait_s=wait_s * 1000)


class DoesNotBlock(Broken):
    law = "test_a_wait_ends_when_the_value_comes"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys)


class WaitsWithItsOneConnection(Broken):
    """A wait keeps all other threads of the client out."""

    law = "test_a_wait_ends_when_the_value_comes"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._connection = threading.Lock()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        with self._connection:
            return super().put(key, data, if_absent=if_absent)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        with self._connection:
            return super().get_many(keys, wait_s=wait_s)


class WaitsForTheFirst(Broken):
    law = "test_a_wait_is_for_any_of_the_keys"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys) or (super().get_many(keys[:1], wait_s=wait_s) and super().get_many(keys))


class WakesOne(Broken):
    law = "test_all_who_wait_are_woken"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._space.changed.notify_all = self._space.changed.notify  # type: ignore[method-assign]


class RemembersItsDeletes(Broken):
    """What this client has deleted it does not look for again, whoever has put it meanwhile."""

    law = "test_two_clients_are_one_dictionary"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._deleted: set[str] = set()

    def delete(self, keys: Iterable[str]) -> None:
        self._deleted.update(keys := list(keys))
        super().delete(keys)

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self._deleted.discard(key)
        return super().put(key, data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        if key in self._deleted:
            raise KeyNotFound(key)
        return super().get(key)


class ConnectsWhenBuilt(Broken):
    law = "test_building_does_no_io"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        raise StorageUnavailable("nobody there")


class MissingMeansEmpty(Broken):
    """Takes a server that is not there for one that has nothing."""

    law = "test_use_raises_storage_errors"


class _Laws(StorageLaws):
    patience_s = 1.0
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def connect(self) -> Callable[[], Storage]:
        url = StorageURL("memory", f"broken-{os.getpid()}-{next(names)}")
        return lambda: self.broken(url, NoOptions())


class _UnreachableLaws(UnreachableStorageLaws):
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def unreachable(self) -> Callable[[], Storage]:
        return lambda: self.broken(StorageURL("memory", "nowhere"), NoOptions())


def laws_of(broken: type[Broken]) -> type[Any]:
    """The test class of a broken storage; pytest finds it by its name."""
    base = _Laws if hasattr(StorageLaws, broken.law) else _UnreachableLaws
    return type(f"Test{broken.__name__}", (base,), {"broken": broken, "__module__": __name__})


BROKEN = Broken.__subclasses__()
globals().update({f"Test{broken.__name__}": laws_of(broken) for broken in BROKEN})
