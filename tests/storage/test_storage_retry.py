"""Over storage that loses answers, is late and makes requests twice, trying again has all laws of a storage."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pytest
from still_clock import Clock

from lambdaml_core.errors import KeyNotFound, RunCancelled, StorageDenied, StorageFull, StorageUnavailable
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.layers import Complete, FullStorage, Layer
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.storage.retry import Retry
from lambdaml_core.testing.storage import StorageLaws
from lambdaml_core.testing.threads import together

T = TypeVar("T")

FAULTS = "fault_lost=0.05&fault_delay=0.05&fault_delay_s=0.0002&fault_duplicate=0.05"
names = itertools.count()


class TestRetryOverFaultyMemory(StorageLaws):
    @pytest.fixture
    def connect(self) -> Callable[[], Storage]:
        seeds, name = itertools.count(), next(names)  # two clients with one seed would have their faults together
        return lambda: open_storage(f"fault+memory://retry-{name}?fault_seed={next(seeds)}&{FAULTS}")


class Failing(Layer):
    """Raises these errors one after the other, then works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(Complete(MemoryStorage(StorageURL("memory", f"failing-{next(names)}"), NoOptions())))
        self._errors = iter(errors)
        self.asked = 0

    def get(self, key: str) -> bytes:
        return self._answer(lambda: bytes(self.inner.get(key)))

    def list(self, prefix: str) -> Iterator[str]:
        yield from ["a", "b"]  # the first page
        yield from self._answer(lambda: ["c"])

    def delete(self, keys: Iterable[str]) -> None:
        first = next(iter(keys))
        self._answer(lambda: self.inner.delete(keys))
        self.inner.delete([first])

    def _answer(self, request: Callable[[], T]) -> T:
        self.asked += 1
        for error in self._errors:
            raise error
        return request()


def test_only_what_may_pass_is_tried_again() -> None:
    for error in (KeyNotFound("gone"), StorageDenied("no"), StorageFull("full")):
        storage = Failing(error)
        with pytest.raises(type(error)) as raised:
            Retry(storage).get("k")
        assert raised.value is error
        assert storage.asked == 1


def test_the_answer_is_that_of_the_try_that_succeeds() -> None:
    storage = Failing(*(StorageUnavailable("down") for _ in range(4)))
    storage.put("k", [b"there"])
    assert Retry(storage).get("k") == b"there"
    assert storage.asked == 5


def test_after_the_deadline_the_last_error_is_raised_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.storage.retry.time", clock := Clock())
    storage = Failing(*(StorageUnavailable(f"down {n}") for n in range(10_000)))
    with pytest.raises(StorageUnavailable, match=r"down [1-9]\d* \(tried again for 0\.05 s\)") as raised:
        Retry(storage, deadline_s=0.05).get("k")
    assert "see whether the storage runs" in str(raised.value.hint)
    assert str(raised.value.__cause__) in raised.value.message
    assert clock.now == pytest.approx(1000.05)


def test_a_storage_that_has_never_answered_is_given_up_sooner() -> None:
    storage = Failing(*(StorageUnavailable("down") for _ in range(10_000)))
    with pytest.raises(StorageUnavailable, match=r"tried again for 0\.02 s"):
        Retry(storage, deadline_s=math.inf, first_s=0.02).get("k")


def test_a_storage_that_has_answered_is_waited_for() -> None:
    storage = Failing(StorageUnavailable("down"), StorageUnavailable("down"))
    storage.put("k", [b"there"])
    tried = Retry(storage, deadline_s=60.0, first_s=0.0)
    assert tried.put("other", [b"answered"])
    assert tried.get("k") == b"there"
    assert storage.asked == 3


def test_who_is_to_leave_tries_no_further() -> None:
    storage = Failing(*(StorageUnavailable("down") for _ in range(10_000)))

    def interrupt() -> None:
        if storage.asked == 3:
            raise RunCancelled("it is enough")

    with pytest.raises(RunCancelled):
        Retry(storage, deadline_s=math.inf, interrupt=interrupt).get("k")
    assert storage.asked == 3


def test_a_listing_that_fails_at_its_second_page_is_made_again_whole() -> None:
    assert list(Retry(Failing(StorageUnavailable("page 2"))).list("")) == ["a", "b", "c"]


def test_keys_that_can_be_gone_through_once_are_deleted_by_the_second_try() -> None:
    storage = Failing(StorageUnavailable("after the first key"))
    storage.put_many({"a": [], "b": []})
    Retry(storage).delete(key for key in ("a", "b"))
    assert storage.get_many(["a", "b"]) == {}


def test_a_create_knows_its_own_value_and_no_other() -> None:
    inner = open_storage("fault+memory://own-values?fault_duplicate=1")
    assert inner.put("one", [b"mi", b"ne"], if_absent=True) is True
    assert inner.put("one", [b"theirs"], if_absent=True) is False
    assert sorted(inner.put_many({"one": [b"theirs"], "two": [], "three": [b"3"]}, if_absent=True)) == ["three", "two"]


def test_of_clients_whose_answers_are_lost_one_creates() -> None:
    """Any create may lose its answer or be made twice; still exactly one client is told that it has created."""
    racers: list[FullStorage] = [
        open_storage(f"fault+memory://lost-creates?fault_seed={me}&fault_lost=0.4&fault_duplicate=0.3")
        for me in range(6)
    ]

    def race(me: int) -> list[bool]:
        return [racers[me].put(f"race/{turn}", [b"%d" % me], if_absent=True) for turn in range(8)]

    outcomes = together(*(functools.partial(race, me) for me in range(len(racers))), limit_s=60.0)
    for turn in range(8):
        (winner,) = (me for me in range(len(racers)) if outcomes[me][turn])
        assert bytes(racers[0].get(f"race/{turn}")) == b"%d" % winner
