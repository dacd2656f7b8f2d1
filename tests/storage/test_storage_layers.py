"""Layers change what they say and nothing else: a storage under a prefix or a counter obeys the same laws."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import pytest

from lambdaml_core.errors import KeyNotFound, NotSupported
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.storage.layers import Complete, Count, Counts, FullStorage, Prefix
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws
from lambdaml_core.testing.threads import together

names = itertools.count()


def memory(name: str = "") -> FullStorage:
    url = StorageURL("memory", name or f"layers-{next(names)}")
    return Complete(MemoryStorage(url, NoOptions()))


class TestPrefix(StorageLaws):
    @pytest.fixture
    def connect(self) -> Callable[[], FullStorage]:
        name = f"prefixed-{next(names)}"
        for neighbour in ("runs/a", "runs/a2/k", "runs/b/k", "a", "runs", "k"):
            memory(name).put(neighbour, [b"not ours"])
        return lambda: Prefix(memory(name), "runs/a")


class TestCount(StorageLaws):
    @pytest.fixture
    def connect(self) -> Callable[[], FullStorage]:
        name = f"counted-{next(names)}"
        return lambda: Count(memory(name))


class Plain:
    """A storage with the required methods only."""

    caps = StorageCaps(scope="process")

    def __init__(self, inner: FullStorage) -> None:
        self._inner = inner

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return self._inner.put(key, data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        return bytes(self._inner.get(key))

    def delete(self, keys: object) -> None:
        raise AssertionError("not called here")

    def close(self) -> None:
        self._inner.close()


def test_complete_makes_many_from_one() -> None:
    storage = Complete(Plain(memory()))
    storage.put("a", [b"old"])
    assert list(storage.put_many({"a": [b"new"], "b": [b"1", b"2"]}, if_absent=True)) == ["b"]
    assert storage.get_many(["b", "none", "a"], wait_s=3600.0) == {"b": b"12", "a": b"old"}
    assert storage.intact("a", storage.get("a"))


def test_complete_cannot_make_a_list() -> None:
    with pytest.raises(NotSupported, match="Plain cannot list") as refused:
        Complete(Plain(memory())).list("")
    assert "channel" in str(refused.value.hint)


def test_prefixes_nest_and_keep_apart() -> None:
    base = memory()
    a, b = Prefix(base, "runs/a/"), Prefix(Prefix(base, "runs"), "b")
    a.put("k", [b"a"])
    b.put_many({"k": [b"b"], "k/2": [b"b2"]})
    assert list(base.list("")) == ["runs/a/k", "runs/b/k", "runs/b/k/2"]
    assert list(a.list("k")) == ["k"]
    assert b.get_many(["k", "k/3"]) == {"k": b"b"}
    b.delete(key for key in ["k", "k/2"])
    assert (list(b.list("")), a.get("k")) == ([], b"a")


def test_a_prefix_takes_its_share_of_the_key() -> None:
    base = memory()
    assert Prefix(base, "runs/a").caps == dataclasses.replace(base.caps, max_key_bytes=250 - len("runs/a/"))


def test_counts_are_exact() -> None:
    base = memory()
    storage = Count(base)
    storage.put("a", [b"123", memoryview(b"4567").cast("H"), bytearray(b"")])
    storage.put("a", [b"89"], if_absent=True)
    assert storage.counts == Counts(put=2, sent=9)
    storage.get("a")
    with pytest.raises(KeyNotFound):
        storage.get("none")
    assert storage.counts == Counts(put=2, sent=9, get=2, received=7)
    storage.put_many({"b": [b"1", b"2"], "c": []})
    storage.get_many(["a", "b", "none"])  # inside a storage that blocks, a wait is one request per value it brings
    assert storage.counts == Counts(put=4, sent=11, get=4, received=16)
    storage.delete(key for key in ["a", "b", "none"])
    assert list(storage.list("")) == ["c"]
    assert storage.counts == Counts(put=4, sent=11, get=4, received=16, delete=3, list=1)
    assert base.get_many(["a", "b", "c"]) == {"c": b""}


def test_a_storage_that_does_not_block_is_asked_for_every_key() -> None:
    storage = Count(Complete(Plain(memory())))
    storage.put("a", [b"1"])
    storage.get_many(["a", "none", "neither"])
    assert storage.counts == Counts(put=1, sent=1, get=3, received=1, missed=2)
    with pytest.raises(KeyNotFound):
        storage.get("none")
    storage.get("a")
    assert storage.counts == Counts(put=1, sent=1, get=5, received=2, missed=3)


def test_counts_are_shared_by_threads() -> None:
    counts = Counts()
    storages = [Count(memory("counted-together"), counts) for _ in range(8)]

    def work(storage: Count) -> None:
        for _ in range(200):
            storage.put("k", [b"12"])

    together(*(functools.partial(work, storage) for storage in storages), limit_s=60.0)
    assert counts == Counts(put=1600, sent=3200)
