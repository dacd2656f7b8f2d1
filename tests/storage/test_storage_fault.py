"""``fault+URL``: faults come from the seed alone, and each does what it is called."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit_storages import kit_url
from still_clock import Clock

from lambdaml_core.builtin import FaultOptions
from lambdaml_core.errors import KeyNotFound, OptionError, PluginNotInstalled, StorageUnavailable, UnknownPlugin
from lambdaml_core.options import NoOptions
from lambdaml_core.specs import Reference
from lambdaml_core.storage import StorageURL, open_storage, storage_reference
from lambdaml_core.storage.fault import Fault, FaultStorage
from lambdaml_core.storage.layers import Complete, Counts
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws

names = itertools.count()


def faulty(inner: str = "", **options: float) -> FaultStorage:
    """The layer itself, around memory of its own if no URL is given, with nothing that tries again."""
    inner = inner or f"memory://fault-{next(names)}"
    query = "&".join(f"fault_{name}={value}" for name, value in options.items())
    url = f"fault+{inner}{'&' if '?' in inner else '?'}{query}"
    storage = storage_reference(url).build(StorageURL.parse(url))
    assert isinstance(storage, FaultStorage)
    return storage


def lost(storage: FaultStorage, key: str) -> bool:
    try:
        storage.put(key, [b"x"])
    except StorageUnavailable:
        return True
    return False


class TestWithoutFaults(StorageLaws):
    @pytest.fixture
    def url(self) -> str:
        return f"fault+memory://fault-{next(names)}"


@given(seed=st.integers(), other=st.integers())
def test_faults_are_a_function_of_seed_request_key_and_turn(seed: int, other: int) -> None:
    keys = [f"k/{i % 7}" for i in range(60)]
    one, two, three = faulty(seed=seed, lost=0.5), faulty(seed=seed, lost=0.5), faulty(seed=other, lost=0.5)
    lost(two, "another/key")  # what else a client does changes nothing
    with contextlib.suppress(KeyNotFound):
        two.get(keys[0])
    pattern = [lost(one, key) for key in keys]
    assert [lost(two, key) for key in keys] == pattern
    assert (seed == other) == ([lost(three, key) for key in keys] == pattern)


def test_a_lost_answer_is_that_of_a_request_carried_out() -> None:
    storage = faulty(lost=1)
    requests: list[Callable[[], object]] = [
        lambda: storage.put("a", [b"1"]),
        lambda: storage.put_many({"b": [b"2"], "c": [b"3"]}, if_absent=True),
        lambda: storage.get("a"),
        lambda: storage.get_many(["a", "b"]),
        lambda: storage.list(""),
        lambda: storage.delete(["b"]),
    ]
    for request in requests:
        with pytest.raises(StorageUnavailable, match="a fault as asked for"):
            request()
    assert list(storage.inner.list("")) == ["a", "c"]


def test_of_a_duplicate_the_second_answer_counts() -> None:
    storage = faulty(duplicate=1)
    assert storage.put("a", [b"1"], if_absent=True) is False
    assert list(storage.put_many({"b": [b"2"]}, if_absent=True)) == []
    assert storage.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}


def test_a_truncated_value_lacks_its_end_and_no_other_client_sees_more() -> None:
    storage = faulty(truncate=1)
    value = bytes(range(256)) * 8
    for i in range(50):
        assert storage.put(f"k/{i}", [value[:100], value[100:]], if_absent=True)
    cut = [bytes(storage.inner.get(f"k/{i}")) for i in range(50)]
    assert all(value.startswith(each) and len(each) < len(value) for each in cut)
    assert len({len(each) for each in cut}) > 10
    storage.put("empty", [])
    assert storage.get("empty") == b""


def test_an_eviction_takes_an_older_value_of_the_same_client() -> None:
    storage = faulty("memory://evicting", evict=1)
    storage.inner.put("another", [b"x"])
    for i in range(20):
        storage.put(f"k/{i}", [b"x"])
        there = list(storage.list("k/"))
        assert f"k/{i}" in there
    assert len(there) < 20
    assert storage.inner.get("another") == b"x"
    with pytest.raises(KeyNotFound):
        [storage.get(f"k/{i}") for i in range(20)]


def test_shares_are_met() -> None:
    storage = faulty(seed=3, lost=0.1)
    assert 160 < sum(lost(storage, f"k/{i}") for i in range(2000)) < 240


def test_capabilities_say_what_is_no_longer_promised(tmp_path: Path) -> None:
    within = open_storage(f"file://{tmp_path}").caps
    assert (within.durable, within.evicts, within.checksums) == (True, False, False)
    for options, durable, evicts in (
        ({"lost": 0.1, "delay": 0.1, "duplicate": 0.1}, True, False),
        ({"truncate": 0.1}, False, False),
        ({"evict": 0.1}, False, True),
    ):
        caps = faulty(f"file://{tmp_path}", **options).caps
        assert asdict(caps) == asdict(within) | {"durable": durable, "evicts": evicts, "checksums": True}


# --- a network -------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lambdaml_core.storage.fault.time", clock)
    return clock


@given(sizes=st.lists(st.integers(0, 500), max_size=9), connections=st.integers(1, 4))
def test_a_batch_takes_latency_and_bytes_over_connections(sizes: list[int], connections: int) -> None:
    """n requests of s bytes take ceil(n / c) (L + s / B)."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdaml_core.storage.fault.time", clock)
        storage = faulty(latency_s=0.5, bytes_per_s=100, parallel=connections)
        size = max(sizes, default=0)
        rounds, alone = -(-len(sizes) // connections), 0.5 + size / 100
        values = {f"k/{i}": [bytes(size)] for i in range(len(sizes))}
        assert clock.took(lambda: storage.put_many(values)) == pytest.approx(rounds * alone)
        assert clock.took(lambda: storage.get_many(list(values))) == pytest.approx(rounds * alone)


def test_every_request_has_its_latency(clock: Clock) -> None:
    storage = faulty(latency_s=0.5)
    storage.inner.put_many({"a": [b"1"], "b": [b"2"]})
    requests: list[Callable[[], object]] = [
        lambda: storage.put("k", [b"1"]),
        lambda: storage.get("k"),
        lambda: storage.get("none"),
        lambda: storage.list(""),
        lambda: storage.delete(["k", "none"]),
        lambda: storage.get_many(["none", "neither"], wait_s=0.01),  # a wait in the storage is one request
    ]
    assert [clock.took(request) for request in requests] == [0.5] * len(requests)
    assert clock.took(lambda: storage.get_many(["a", "b", "none"])) == 1.0  # it waits: one for each value that comes


def test_what_is_late_is_seen_late(clock: Clock) -> None:
    """A value can be read once its request has been made, and a batch that takes several rounds appears in these."""
    storage = faulty("memory://late", latency_s=1, parallel=2)
    seen: list[int] = []
    clock.sleep = lambda seconds: seen.append(len(list(storage.inner.list(""))))  # type: ignore[method-assign]
    storage.put_many({f"k/{i}": [b"x"] for i in range(5)})
    assert seen == [0, 2, 4]


def test_requests_of_several_threads_share_the_connections(clock: Clock) -> None:
    storage = faulty(latency_s=1, parallel=2)
    ends: list[float] = []
    clock.sleep = ends.append  # type: ignore[assignment, method-assign]
    for i in range(4):  # at one moment, as so many threads would
        storage.put(f"k/{i}", [b"x"])
    assert ends == [1, 1, 2, 2]


@pytest.mark.parametrize(("connections", "brought", "seconds"), [(1, "a", 1.0), (2, "abc", 2.0), (4, "abc", 1.5)])
def test_what_appears_while_a_value_is_on_its_way_sets_out_as_well(
    connections: int, brought: str, seconds: float, clock: Clock
) -> None:
    """b and c appear together, of which the second must wait where only one connection is left; d appears too late."""
    storage = faulty(latency_s=1, parallel=connections)
    appear = {"a": 0.0, "b": 0.5, "c": 0.5, "d": 1.2}
    began = clock.now

    def wait(keys: Sequence[str], wait_s: float) -> dict[str, bytes]:
        clock.now = min(clock.now + wait_s, max(clock.now, began + min(appear[key] for key in keys)))
        return {key: b"" for key in keys if began + appear[key] <= clock.now}

    storage.inner.get_many = wait  # type: ignore[assignment, method-assign]
    assert clock.took(lambda: storage.get_many(list(appear), wait_s=9)) == seconds
    clock.now = began
    assert sorted(storage.get_many(list(appear), wait_s=9)) == list(brought)


def test_a_storage_that_does_not_block_is_charged_for_every_key(clock: Clock) -> None:
    class Polled(MemoryStorage):
        caps = replace(MemoryStorage.caps, blocks=False, latency_s=0.5, bytes_per_s=100, parallel=3, piece_bytes=7)

    inner = Complete(Polled(StorageURL("memory", f"polled-{next(names)}"), NoOptions()))
    storage = Fault(inner, FaultOptions(fault_latency_s=2, fault_bytes_per_s=100))
    assert clock.took(lambda: storage.get_many([f"none/{i}" for i in range(7)])) == 6
    caps = storage.caps
    assert (caps.latency_s, caps.bytes_per_s, caps.parallel, caps.piece_bytes) == (2.5, 50, 3, 7)
    assert Fault(inner, FaultOptions(fault_parallel=9)).caps.parallel == 9
    assert Fault(inner, FaultOptions()).caps.bytes_per_s == 100


# --- the layer as a plugin -----------------------------------------------------------------------------------


def test_options_go_where_they_belong(tmp_path: Path) -> None:
    reference = storage_reference(f"fault+file://{tmp_path}?fault_seed=7&recycle=false")
    assert (reference.kind, reference.name) == ("storage_layer", "fault")
    assert reference.values["fault_seed"] == 7
    assert reference.inner is not None
    assert (reference.inner.name, reference.inner.values["recycle"]) == ("file", False)
    assert Reference(**json.loads(json.dumps(asdict(reference)))) == reference


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("fault+file:///x?fault_sed=1", OptionError, "did you mean fault_seed?"),
        ("fault+file:///x?fault_lost=2", OptionError, "at most 1"),
        ("fault+file:///x?recicle=1", OptionError, "did you mean recycle?"),
        ("file:///x?fault_seed=1", OptionError, "unknown option file.fault_seed"),
        ("fault:///x", UnknownPlugin, "another kind of plugin: storage layer"),
        ("file+memory://x", UnknownPlugin, "another kind of plugin: storage"),
        ("fualt+memory://x", UnknownPlugin, "did you mean fault?"),
        ("fault+fiel:///x", UnknownPlugin, "did you mean file?"),
    ],
)
def test_what_is_wrong_with_a_layered_url_is_said(url: str, error: type[OptionError], said: str) -> None:
    with pytest.raises(error) as refused:
        storage_reference(url)
    assert said in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("scheme", ["redis", "redis+unix", "fault+redis+unix", "fault+fault+redis+unix"])
def test_what_serves_a_scheme_with_a_plus_is_named_where_it_is_not_installed(core_alone: None, scheme: str) -> None:
    """The word before the plus is a layer only where no storage has the whole for its scheme."""
    with pytest.raises(PluginNotInstalled, match=r"redis(\+unix)? is in the plugin lambdaml-redis") as refused:
        storage_reference(f"{scheme}:///run/redis.sock?db=1")
    assert refused.value.hint is not None
    assert "pip install ./plugins/lambdaml-redis" in refused.value.hint


def test_a_storage_may_have_a_plus_in_its_scheme_within_a_layer(tmp_path: Path) -> None:
    url = kit_url("odd_storages", "InPieces", tmp_path).replace("kit://", "kit+unix://")
    assert storage_reference(url).name == "kit"
    layered = storage_reference(f"fault+{url}?fault_seed=7")
    assert (layered.name, layered.inner and layered.inner.name) == ("fault", "kit")
    open_storage(f"fault+{url}?fault_seed=7").put("k", [b"x"])
    assert open_storage(url).get("k") == b"x"


def test_layers_nest() -> None:
    storage = open_storage("fault+fault+memory://nested?fault_seed=1")
    storage.put("k", [b"x"])
    assert open_storage("memory://nested").get("k") == b"x"


def test_a_worker_needs_no_registry_to_open_it(tmp_path: Path) -> None:
    url = f"fault+file://{tmp_path}?fault_lost=0.5"
    script = """
import json, sys
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage
storage = open_storage(sys.argv[1], Reference(**json.loads(sys.argv[2])))
storage.put("k", [b"there"])
print(sorted({"pluggy", "click", "lambdaml_core.registry", "numpy"} & set(sys.modules)))
"""
    reference = json.dumps(asdict(storage_reference(url)))
    done = subprocess.run([sys.executable, "-c", script, url, reference], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert open_storage(url).get("k") == b"there"


def test_a_request_is_counted_each_time_it_is_made() -> None:
    counts = Counts()
    storage = open_storage("fault+memory://counted-tries?fault_lost=0.3&fault_seed=2", counts=counts)
    for i in range(100):
        storage.put(f"k/{i}", [b"12"])
    assert 120 < counts.put < 180
    assert counts.sent == 2 * counts.put
