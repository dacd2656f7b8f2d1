"""Storages that break one law of listing, of many keys or of concurrent use each; ``test_storage_kit.py`` runs them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from broken_base import NETWORK_S, Broken, suites_of

from lambdaml_core.errors import KeyNotFound, StorageUnavailable
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Parts


class ListsWholeWords(Broken):
    law = "test_list_gives_exactly_the_keys_with_the_prefix"

    def list(self, prefix: str) -> Iterator[str]:
        return super().list(f"{prefix.rstrip('/')}/" if prefix else "")


class ListsOnePage(Broken):
    law = "test_list_is_complete"
    mistake = "the first page of a listing taken for all of it"

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


class CreatesABatch(Broken):
    """The service's batches know no condition, so what is more than one request takes is put whatever is there."""

    law = "test_put_many_stores_all_and_says_which"

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        return super().put_many(items, if_absent=if_absent and len(items) <= 100)


class AnswersByAnIterator(Broken):
    """Its answer can be gone through once, and has no length."""

    law = "test_put_many_stores_all_and_says_which"

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        return iter(super().put_many(items, if_absent=if_absent))  # type: ignore[return-value]


class LooksFirst(Broken):
    """Create-once by looking first and writing then, at once: hardly ever does another come in between by itself."""

    law = "test_one_of_many_creates"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        value = b"".join(data)
        if if_absent and self._space.values.get(key) is not None:
            return False
        self._space.values[key] = value
        return True


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
    mistake = "waits that never end"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys, wait_s=wait_s or 1e6)


class StartsAgainWhenWoken(Broken):
    """Waits the whole time again after every change, in milliseconds."""

    law = "test_a_wait_ends"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys, wait_s=wait_s * 1000)


class RoundsDown(Broken):
    """Waits whole tenths of a second."""

    law = "test_a_wait_lasts_its_time"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys, wait_s=int(wait_s * 10) / 10)


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


class WatchesFew(Broken):
    """A connection watches a hundred keys at most, and nobody watches the rest."""

    law = "test_a_wait_is_for_many_keys"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys) or (super().get_many(keys[:100], wait_s=wait_s) and super().get_many(keys))


class BringsOne(Broken):
    """A wait brings the value that ended it, although others are there."""

    law = "test_a_wait_is_for_many_keys"

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        found = super().get_many(keys, wait_s=wait_s)
        return dict(itertools.islice(found.items(), 1)) if wait_s else found


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


globals().update(suites_of(__name__))
