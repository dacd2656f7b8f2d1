"""Storages that break one law of values or of single keys each; ``test_storage_kit.py`` runs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from broken_base import Broken, suites_of

from lambdaml_core.errors import KeyNotFound
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.memory import MemoryStorage


class NegativeNumbers(Broken):
    law = "test_capabilities_make_sense"
    caps = replace(MemoryStorage.caps, parallel=0)


class PricesWhatNobodyCounts(Broken):
    law = "test_capabilities_make_sense"
    caps = replace(MemoryStorage.caps, usd={"put": 5e-6, "head": 4e-7})


class KeepsForGoodAndDrops(Broken):
    law = "test_capabilities_make_sense"
    caps = replace(MemoryStorage.caps, scope="host", durable=True, evicts=True)


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
    mistake = "errors turned into None or False"

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

    law = "test_too_large_values_are_refused"
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


globals().update(suites_of(__name__))
