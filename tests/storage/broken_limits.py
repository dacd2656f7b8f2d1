"""Storages that break one law of limits, times, lost answers or messages each; ``test_storage_kit.py`` runs them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from broken_base import Broken, suites_of

from lambdaml_core.errors import KeyNotFound, StorageError, StorageUnavailable, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.memory import MemoryStorage

# --- numbers --------------------------------------------------------------------------------------------------


class CountsItsHeader(Broken):
    """States the service's limit, of which its own header takes some."""

    law = "test_largest_value"
    caps = replace(MemoryStorage.caps, max_value_bytes=100_000)

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if sum(memoryview(part).nbytes for part in data) > 100_000 - 64:
            raise ValueTooLarge(f"{key} is too large")
        return super().put(key, data, if_absent=if_absent)


class SendsOneRequest(Broken):
    """What one request takes is the most that ``put_many`` takes."""

    law = "test_largest_value"
    caps = replace(MemoryStorage.caps, max_value_bytes=100_000)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        if sum(len(b"".join(data)) for data in items.values()) > 150_000:
            raise ValueTooLarge("the request is too large")
        return super().put_many(items, if_absent=if_absent)


class ChecksPutAlone(Broken):
    law = "test_too_large_values_are_refused"
    caps = replace(MemoryStorage.caps, max_value_bytes=100_000)

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if len(b"".join(data)) > 100_000:
            raise ValueTooLarge(f"{key} is too large")
        return super().put(key, data, if_absent=if_absent)


class FewConnections(Broken):
    """A pool of three connections, and nobody waits for one."""

    law = "test_requests_at_once"
    caps = replace(MemoryStorage.caps, parallel=8)

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._pool = threading.Semaphore(3)

    def get(self, key: str) -> bytes:
        if not self._pool.acquire(blocking=False):
            raise StorageUnavailable("no connection is free")
        time.sleep(0.002)
        self._pool.release()
        return super().get(key)


# --- times ----------------------------------------------------------------------------------------------------


class Expiring(MemoryStorage):
    """A correct storage that lets values go."""

    caps = replace(MemoryStorage.caps, expires=True)
    ends: ClassVar[dict[tuple[int, str], float]] = {}

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(Expiring.put_many(self, {key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self._let_go(items)
        stored = super().put_many(items, if_absent=if_absent)
        for key in stored:
            self.ends.pop((id(self._space), key), None)
            if ttl_s is not None:
                self.ends[id(self._space), key] = time.monotonic() + self.life(ttl_s)
        return stored

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        self._let_go(keys)
        return super().get_many(keys, wait_s=wait_s)

    def get(self, key: str) -> bytes:
        self._let_go([key])
        return super().get(key)

    def list(self, prefix: str) -> Iterator[str]:
        self._let_go([*super().list(prefix)])
        return super().list(prefix)

    def life(self, ttl_s: float) -> float:
        """How long a value really lives."""
        return ttl_s

    def _let_go(self, keys: Iterable[str]) -> None:
        now = time.monotonic()
        gone = [key for key in keys if self.ends.get((id(self._space), key), now + 1) <= now]
        super().delete(gone)
        for key in gone:
            self.ends.pop((id(self._space), key), None)


class NeverExpires(Expiring, Broken):
    """Takes whole seconds, and 0 for ever."""

    law = "test_values_go_when_their_time_is_over"

    def life(self, ttl_s: float) -> float:
        return int(ttl_s) or 1e9


class TakesSecondsForMilliseconds(Expiring, Broken):
    law = "test_values_go_when_their_time_is_over"

    def life(self, ttl_s: float) -> float:
        return ttl_s / 1000


class ExpiresOneByOne(Expiring, Broken):
    """Forgets the time where there are many values."""

    law = "test_values_go_when_their_time_is_over"

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        return super().put_many(items, if_absent=if_absent)


class ListsWhatHasGone(Expiring, Broken):
    """The service removes what has expired when it comes to it, and only reads look at the time."""

    law = "test_values_go_when_their_time_is_over"

    def list(self, prefix: str) -> Iterator[str]:
        gone = [key for space, key in self.ends if space == id(self._space)]
        return iter(sorted({*super().list(prefix), *(key for key in gone if key.startswith(prefix))}))

    def _let_go(self, keys: Iterable[str]) -> None:
        ends = dict(self.ends)
        super()._let_go(keys)
        self.ends.update(ends)


class KeepsTheOldTime(Expiring, Broken):
    law = "test_a_new_value_has_a_time_of_its_own"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        old = self.ends.get((id(self._space), key))
        stored = bool(Expiring.put_many(self, {key: data}, if_absent=if_absent, ttl_s=ttl_s))
        if old is not None:
            self.ends[id(self._space), key] = old
        return stored


# --- lost answers ---------------------------------------------------------------------------------------------


class DeletesMustFind(Broken):
    """Takes a delete that finds nothing for a failed one."""

    law = "test_lost_answers_change_no_value"

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._space.values:
                super().delete([key])
            elif key != "none":
                raise StorageError(f"{key} could not be deleted")


class RefusesWhatItHasSent(Broken):
    """Takes a request that it has seen for one sent twice, whatever happened since."""

    law = "test_lost_answers_change_no_value"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._sent: dict[str, bytes] = {}

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        value = b"".join(data)
        if not if_absent and self._sent.get(key) == value:
            raise StorageError(f"{key} has been sent before")
        self._sent[key] = value
        return super().put(key, data, if_absent=if_absent)


class ComparesLengths(Broken):
    """Takes a value of the same length for its own, whose answer was lost."""

    law = "test_lost_answers_leave_one_creator"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key, data, if_absent=if_absent) or len(self.get(key)) == len(b"".join(data))


class AllOrNone(Broken):
    """Creates nothing if one of the keys is there: one request, which the service makes so."""

    law = "test_lost_answers_of_put_many_tell_mine_from_theirs"

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        if if_absent and self.get_many(list(items)):
            return []
        return super().put_many(items, if_absent=if_absent)


# --- messages -------------------------------------------------------------------------------------------------


class TellsItsURL(Broken):
    law = "test_errors_tell_no_password"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(replace(url, user="", password=""), options)
        self._url = url.text()

    def get(self, key: str) -> bytes:
        try:
            return super().get(key)
        except KeyNotFound as e:
            raise KeyNotFound(f"there is no {key} in {self._url}") from e


class ChainsTheSDK(Broken):
    """Its own message is clean; what it was raised from is not."""

    law = "test_failed_connections_tell_no_password"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(replace(url, user="", password=""), options)
        self._url = url.text()

    def get(self, key: str) -> bytes:
        try:
            raise OSError(f"could not connect to {self._url}")
        except OSError as e:
            raise StorageUnavailable("nobody answers") from e


class ProblemWithoutRemedy(Broken):
    law = "test_checks_are_findings"

    def checks(self) -> Iterator[Finding]:
        yield Finding(what="bucket", state="problem", said="it is not there")


class LooksByWriting(Broken):
    """Leaves behind what it has tried."""

    law = "test_checks_are_findings"

    def checks(self) -> Iterator[Finding]:
        self.put("probe", [b"x"])
        yield Finding(what="bucket", state="ok", said="it can be written")


class CannotLook(Broken):
    law = "test_checks_say_what_cannot_be_reached"

    def checks(self) -> Iterator[Finding]:
        raise StorageUnavailable("nobody answers")


globals().update(suites_of(__name__))
