"""Values of any size over a storage whose values are bounded: the laws hold, and nothing is left or paid needlessly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import KeyNotFound, StorageError, StorageUnavailable, ValueTooLarge
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.chunk import Chunk
from lambdaml_core.storage.layers import Complete, Count, FullStorage, Layer, Prefix, size_of
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws

MOST = 1024

names = itertools.count()


class Small(Layer):
    """A storage whose values are bounded, and which says so when one is larger."""

    def __init__(self, name: str, **caps: object) -> None:
        super().__init__(Complete(MemoryStorage(StorageURL("memory", name), NoOptions())))
        self._caps = replace(self.inner.caps, max_value_bytes=MOST, **caps)  # type: ignore[arg-type]

    @property
    def caps(self) -> StorageCaps:
        return self._caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(self.put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        if max(map(size_of, items.values()), default=0) > MOST:
            raise ValueTooLarge("too large")
        return super().put_many(items, if_absent=if_absent, ttl_s=ttl_s)


@pytest.fixture
def below() -> Small:
    """What is really stored."""
    return Small(f"chunks-{next(names)}", parallel=2)


class TestChunk(StorageLaws):
    @pytest.fixture
    def connect(self) -> Callable[[], FullStorage]:
        name = f"chunked-{next(names)}"
        return lambda: Chunk(Small(name, parallel=3))


@given(st.lists(st.binary(max_size=3 * MOST), max_size=5))
def test_any_value_comes_back_whole(parts: list[bytes]) -> None:
    name = f"any-{next(names)}"
    storage, other = Chunk(Small(name)), Chunk(Small(name))
    storage.put("k", [memoryview(part) for part in parts])
    assert bytes(other.get("k")) == b"".join(parts)
    other.delete(["k"])
    assert list(Small(name).list("")) == []


def test_what_fits_is_stored_as_it_is(below: Small) -> None:
    """And costs no request more: who has put or read a value deletes it without another look."""
    counted = Count(below)
    storage = Chunk(counted)
    for i in range(8):
        storage.put(f"k{i}", [bytes(MOST)])
        storage.get(f"k{i}")
    assert bytes(below.get("k0")) == bytes(MOST)
    storage.delete([f"k{i}" for i in range(8)])
    assert (counted.counts.put, counted.counts.get, counted.counts.delete) == (8, 8, 8)


def test_a_value_that_looks_like_a_manifest_is_a_value(below: Small) -> None:
    storage = Chunk(below)
    storage.put("large", [bytes(5 * MOST)])
    manifest = bytes(below.get("large"))
    storage.put("copy", [manifest])
    assert bytes(Chunk(below).get("copy")) == manifest


@pytest.mark.parametrize("remembers", [True, False])
def test_nothing_is_left(below: Small, remembers: bool) -> None:
    """Of what was replaced, or has lost the race to create, or was deleted."""
    storage = Chunk(below)

    def again() -> Chunk:
        return storage if remembers else Chunk(below)

    again().put("k", [bytes(5 * MOST)])
    again().put("k", [bytes(3 * MOST)])
    assert again().put("k", [bytes(2 * MOST)], if_absent=True) is False
    assert len(list(below.list(""))) == 1 + 3
    assert list(storage.list("")) == ["k"]
    again().delete(["k", "none"])
    assert list(below.list("")) == []


class Failing(Layer):
    """Its second request to put several values fails after some."""

    puts = 0

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self.puts += 1
        stored = super().put_many(items, if_absent=if_absent, ttl_s=ttl_s)
        if self.puts == 2:
            raise StorageUnavailable("gone")
        return stored


def test_a_put_that_fails_leaves_nothing_and_changes_nothing(below: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.storage.chunk._TOGETHER_BYTES", 4 * MOST)
    Chunk(below).put("k", [b"before"])
    with pytest.raises(StorageUnavailable):
        Chunk(Failing(below)).put("k", [bytes(9 * MOST)])
    assert bytes(Chunk(below).get("k")) == b"before"
    assert list(below.list("")) == ["k"]


@pytest.mark.parametrize(("evicts", "error"), [(True, KeyNotFound), (False, StorageError)])
def test_a_piece_that_is_gone(evicts: bool, error: type[StorageError]) -> None:
    """A cache may lose any value; where none is lost, somebody has damaged it."""
    below = Small(f"lost-{next(names)}", evicts=evicts)
    storage = Chunk(below)
    storage.put("k", [bytes(5 * MOST)])
    below.delete([next(key for key in below.list("") if key.endswith("-3"))])
    with pytest.raises(error) as raised:
        storage.get("k")
    assert type(raised.value) is error
    assert evicts is False or storage.get_many(["k"]) == {}


def test_a_piece_that_is_cut_short_is_lost(below: Small) -> None:
    Chunk(below).put("k", [bytes(5 * MOST)])
    below.put(next(key for key in below.list("") if key.endswith("-3")), [bytes(MOST - 1)])
    with pytest.raises(StorageError, match="has lost a piece"):
        Chunk(below).get("k")


class Calls(Layer):
    """Remembers how many keys each call was for."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.made: list[tuple[str, int]] = []

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self.made.append(("put", len(items)))
        return super().put_many(items, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        self.made.append(("get", len(keys)))
        return super().get_many(keys, wait_s=wait_s)

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.made.append(("delete", len(keys)))
        super().delete(keys)


VALUES = {"a": [bytes(3 * MOST)], "b": [b"small"], "c": [bytes(2 * MOST + 1)], "d": [b"small"]}


def test_pieces_of_several_values_move_together(below: Small) -> None:
    """One batch of all pieces and one of all values, with the manifests: as many are at once as are worth making."""
    calls = Calls(below)
    Chunk(calls).put_many(VALUES, if_absent=True)
    assert calls.made == [("put", 6), ("put", 4)]
    calls.made.clear()
    assert {key: bytes(data) for key, data in Chunk(calls).get_many([*VALUES, "none"]).items()} == {
        key: parts[0] for key, parts in VALUES.items()
    }
    assert calls.made == [("get", 5), ("get", 6)]


def test_memory_for_pieces_is_bounded(below: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.storage.chunk._TOGETHER_BYTES", 5 * MOST)  # two rounds of two
    calls = Calls(below)
    storage = Chunk(calls)
    storage.put("k", [bytes(9 * MOST)], if_absent=True)
    assert bytes(storage.get("k")) == bytes(9 * MOST)
    assert calls.made == [*(("put", n) for n in (4, 4, 1, 1)), *(("get", n) for n in (1, 4, 4, 1))]


def test_who_deletes_reads_what_it_does_not_know_a_few_at_a_time(below: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    Chunk(below).put_many(VALUES)
    monkeypatch.setattr("lambdaml_core.storage.chunk._TOGETHER_BYTES", 2 * MOST)
    calls = Calls(below)
    Chunk(calls).delete([*VALUES, "none"])
    assert calls.made == [("get", 2), ("get", 2), ("get", 1), ("delete", 5), ("delete", 6)]
    assert list(below.list("")) == []


def test_sweeping_reads_nothing_and_takes_what_a_killed_writer_has_left(below: Small) -> None:
    Chunk(below).put_many({f"run/{key}": data for key, data in VALUES.items()})
    below.delete(["run/a"])  # as if its writer had been killed before it put the manifest
    below.put("runs", [b"another's"])
    calls = Calls(below)
    mine = Prefix(Chunk(calls), "run")
    mine.sweep(spare=["c"])
    assert bytes(mine.get("c")) == VALUES["c"][0]
    assert list(mine.list("")) == ["c"]
    calls.made.clear()
    mine.sweep()
    assert calls.made == [("delete", 4)]
    assert list(below.list("")) == ["runs"]


def test_pieces_are_as_long_as_the_storage_moves_them_quickest(below: Small) -> None:
    assert Chunk(below).caps.piece_bytes == MOST
    assert Chunk(Small("piece", piece_bytes=100)).caps.piece_bytes == 100


class Replacing(Layer):
    """Another client replaces the value after its manifest was read, as often as is asked for."""

    def __init__(self, inner: FullStorage, values: list[bytes]) -> None:
        super().__init__(inner)
        self._values = values

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        found = super().get_many(keys, wait_s=wait_s)
        if "k" in keys and self._values:
            Chunk(self.inner).put("k", [self._values.pop()])
        return found


@pytest.mark.parametrize("last", [b"short", b"z" * 3 * MOST])
def test_a_value_that_is_replaced_while_it_is_read(below: Small, last: bytes) -> None:
    Chunk(below).put("k", [b"a" * 4 * MOST])
    values = [last, b"b" * 2 * MOST]
    assert bytes(Chunk(Replacing(below, list(values))).get("k")) in values


def test_names_of_pieces_are_no_keys(below: Small) -> None:
    storage = Chunk(below)
    storage.put("k", [bytes(2 * MOST)])
    (piece, *_) = (key for key in below.list("") if key != "k")
    for call in (lambda: storage.get(piece), lambda: storage.put(piece, [b"x"]), lambda: storage.delete([piece])):
        with pytest.raises(StorageError, match="cannot be a key"):
            call()
