"""Sizes, times and memory: what does not fit, what goes by itself, and how each of these shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memcached_help import ask, figure, opened

from lambdaml_core.errors import KeyNotFound, NotSupported, StorageError, StorageFull, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.options import parse
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_core.storage.layers import size_of
from lambdaml_memcached.options import MemcachedOptions
from lambdaml_memcached.storage import MemcachedStorage
from lambdaml_memcached.testing import MemcachedServer, memcached_server

DAY_S = 86_400


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with memcached_server() as running:
        yield running


def findings(url: str) -> dict[str, Finding]:
    parsed = StorageURL.parse(url)
    options = parse(MemcachedOptions, parsed.query, where="memcached")
    with contextlib.closing(MemcachedStorage(parsed, options)) as storage:
        return {finding.what: finding for finding in storage.checks()}


# --- sizes


@pytest.mark.parametrize(("item_bytes", "slab_kb"), [(512 << 10, 512), (1 << 20, 64), (1 << 20, 512), (8 << 20, 512)])
@pytest.mark.parametrize("key", ["k", "k" * 250], ids=["short", "long"])
def test_the_largest_value_fits_into_an_item_whatever_the_key(item_bytes: int, slab_kb: int, key: str) -> None:
    """Also where the server puts it together from several slabs."""
    sizes = ["-I", str(item_bytes), "-o", f"slab_chunk_max={slab_kb}"]
    with memcached_server(*sizes) as server, opened(f"{server.url}?item_bytes={item_bytes}") as storage:
        most = storage.caps.max_value_bytes
        assert most is not None
        assert most < item_bytes <= most + 1024, "room that is stated away"
        value = np.arange(most, dtype=np.uint8)
        assert storage.put(key, [value.data[:5], value.data[5:]], if_absent=True) is True
        assert np.array_equal(np.frombuffer(storage.get(key), np.uint8), value)


def test_a_server_that_takes_less_than_was_said_refuses_in_words() -> None:
    """It would be lost in silence if the answer were not waited for."""
    with memcached_server("-I", "512k") as server, opened(server.url) as storage:
        assert storage.put("fits", [bytes(500_000)])
        large = [bytes(600_000)]
        for put in (
            lambda: storage.put("large", large),
            lambda: storage.put("large", large, if_absent=True),
            lambda: storage.put_many({"before": [b"x"], "large": large, "after": [b"x"]}),
        ):
            with pytest.raises(ValueTooLarge, match="takes no items of 1048576 bytes") as refused:
                put()
            assert "item_bytes=" in str(refused.value.hint)
            with pytest.raises(KeyNotFound):
                storage.get("large")
        assert size_of([storage.get("fits")]) == 500_000, "the next request has its own answer"
        items = findings(server.url)["item size"]
        assert (items.state, items.values["item_size_max_bytes"]) == ("problem", 512 << 10)
        assert "item_bytes=524288" in str(items.remedy)
        assert findings(f"{server.url}?item_bytes=524288")["item size"].state == "ok"


def test_values_of_hundreds_of_megabytes_go_in_pieces(server: MemcachedServer) -> None:
    storage = open_storage(server.url)
    value = np.arange(200_000_000 // 8, dtype=np.int64)
    before = figure(server, "curr_items")
    assert storage.put("large", [b"head", value.data], if_absent=True) is True
    assert storage.put("large", [b"other"], if_absent=True) is False
    got = memoryview(storage.get("large"))
    assert bytes(got[:4]) == b"head"
    assert np.array_equal(np.frombuffer(got[4:], np.int64), value)
    storage.delete(["large"])
    assert figure(server, "curr_items") == before
    storage.close()


def test_many_long_keys_with_large_values_at_once(server: MemcachedServer) -> None:
    """Answers that are not read yet must not keep the request from leaving."""
    with opened(server.url) as storage:
        keys = [f"{i:0250}" for i in range(1500)]
        values = {key: [key.encode(), bytes(20_000)] for key in keys}
        assert sorted(storage.put_many(values)) == keys
        found = storage.get_many([*keys, "none"])
        assert sorted(found) == keys
        assert all(bytes(found[key][:250]) == key.encode() and size_of([found[key]]) == 20_250 for key in keys)
        storage.delete(keys)
        assert storage.get_many(keys) == {}


def test_a_value_is_kept_while_it_is_looked_at(server: MemcachedServer) -> None:
    """Memory is used again once nobody has a view of it, and not before: not even a view of a view counts as nobody."""
    with opened(server.url) as storage:
        for i in range(8):
            storage.put(f"view/{i}", [bytes([i]) * 300_000])
        held = [np.frombuffer(storage.get(f"view/{i}"), np.uint8)[7:] for i in range(4)]
        addresses = {array.ctypes.data for array in held}
        assert all(np.all(array == i) for i, array in enumerate(held))
        for i in range(4, 8):
            storage.get(f"view/{i}")
        assert all(np.all(array == i) for i, array in enumerate(held))
        del held
        again = [np.frombuffer(storage.get(f"view/{i}"), np.uint8)[7:] for i in range(8)]
        assert addresses <= {array.ctypes.data for array in again}


def test_long_keys_are_refused_and_nothing_is_listed(server: MemcachedServer) -> None:
    with opened(server.url) as storage:
        with pytest.raises(StorageError, match="longer than 250 bytes"):
            storage.put("k" * 251, [b"x"])
        with pytest.raises(NotSupported, match="cannot list"):
            storage.list("")


# --- times


@settings(deadline=None)
@given(ttl_s=st.floats(1e-3, 400 * DAY_S))
@example(ttl_s=30.0 * DAY_S)
@example(ttl_s=30.0 * DAY_S - 1)
@example(ttl_s=30.0 * DAY_S + 1)
def test_a_time_to_live_is_no_date(server: MemcachedServer, ttl_s: float) -> None:
    """A number above 30 days is a date to Memcached, mostly one of 1970: the value would be gone at once."""
    with opened(server.url) as storage:
        before = figure(server, "time")
        storage.put("ttl", [b"x"], ttl_s=ttl_s)
        answer = ask(server, "mg ttl t")[0]
        passed = figure(server, "time") - before
        if answer == "EN":
            assert passed >= ttl_s, "it was gone before its time"
        else:
            assert ttl_s - 1 - passed <= int(answer.removeprefix("HD t")) <= ttl_s + 4


@pytest.mark.parametrize(("query", "expected"), [("", DAY_S), ("?expire_s=600", 600)])
def test_values_put_without_a_time_go_some_day(server: MemcachedServer, query: str, expected: int) -> None:
    """What a killed run leaves is not there for ever."""
    with opened(server.url + query) as storage:
        for put, least, most in (
            (lambda: storage.put("left", [b"x"]), expected, expected),
            (lambda: storage.put_many({"left": [b"x"]}, if_absent=True), expected, expected),
            (lambda: storage.put("left", [b"x"], ttl_s=1e12), 30 * DAY_S, 1e12),
        ):
            storage.delete(["left"])
            before = figure(server, "time")
            put()
            left_s = int(ask(server, "mg left t")[0].removeprefix("HD t"))
            passed = figure(server, "time") - before
            assert least - 1 - passed <= left_s <= most + 4


# --- memory


def test_a_full_server_drops_what_is_oldest_and_says_so() -> None:
    with memcached_server(memory_mb=8) as server, opened(server.url) as storage:
        keys = [f"k/{i}" for i in range(40)]
        assert storage.caps.evicts
        for key in keys:
            assert storage.put(key, [bytes(500_000)], if_absent=True) is True
        assert bytes(storage.get(keys[-1])) == bytes(500_000)
        with pytest.raises(KeyNotFound):
            storage.get(keys[0])
        there = storage.get_many(keys)
        found = findings(server.url)
        assert found["evictions"].values == {"evictions": len(keys) - len(there)}
        assert found["evictions"].state == found["memory"].state == "warning"


def test_a_full_server_that_drops_nothing_refuses() -> None:
    with memcached_server("-M", memory_mb=8) as server, opened(server.url) as storage:
        stored = list[str]()

        def fill() -> None:
            for i in range(40):
                storage.put(f"k/{i}", [bytes(500_000)], if_absent=True)
                stored.append(f"k/{i}")

        with pytest.raises(StorageFull, match="out of memory") as refused:
            fill()
        assert "-m" in str(refused.value.hint)
        assert stored
        assert sorted(storage.get_many(stored)) == sorted(stored)
        with pytest.raises(StorageFull):
            storage.put_many({f"more/{i}": [bytes(500_000)] for i in range(4)})
        storage.delete(stored)
        assert storage.put("again", [bytes(500_000)]) is True
        found = findings(server.url)
        assert found["evictions"].state == "ok"
        assert "refused" in found["memory"].said


def test_a_server_in_order_has_nothing_to_mend(server: MemcachedServer) -> None:
    found = findings(server.url)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert set(found) == {"server", "item size", "memory", "evictions", "clock"}
    assert found["server"].said.startswith("memcached 1.")
    assert found["memory"].values == {"limit_bytes": 1024 << 20}
