"""Requests at once: as many as stated, all of them ended before an error is raised, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import KeyNotFound, StorageDenied, StorageError
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.storage.layers import Complete
from lambdaml_core.storage.parallel import Parallel
from lambdaml_core.testing.threads import together

LIMIT_S = 60.0


@pytest.fixture
def threads_left() -> Callable[[], set[threading.Thread]]:
    """Threads that there were not when the test began and that do not end."""
    before = set(threading.enumerate())

    def left() -> set[threading.Thread]:
        for thread in set(threading.enumerate()) - before:
            thread.join(LIMIT_S)
        return set(threading.enumerate()) - before

    return left


@given(items=st.lists(st.integers()), most=st.integers(1, 4))
def test_results_are_those_of_a_loop(items: list[int], most: int) -> None:
    parallel = Parallel(most)
    try:
        assert parallel.map(lambda item: item * 3, items) == [item * 3 for item in items]
    finally:
        parallel.close()


@pytest.mark.parametrize("most", [2, 5])
def test_so_many_are_under_way_at_once(most: int) -> None:
    """The barrier opens when so many are at it, and the count never passes their number."""
    gate, under_way, highest, lock = threading.Barrier(most), [0], [0], threading.Lock()

    def work(_item: int) -> None:
        with lock:
            under_way[0] += 1
            highest[0] = max(highest[0], under_way[0])
        gate.wait(LIMIT_S)
        with lock:
            under_way[0] -= 1

    parallel = Parallel(most)
    parallel.map(work, range(most * 6))
    parallel.close()
    assert highest == [most]


def test_one_at_a_time_needs_no_thread() -> None:
    seen = set(Parallel(1).map(lambda _: threading.current_thread(), range(9)))
    assert seen == {threading.current_thread()}
    assert Parallel(9).map(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_the_first_error_is_raised_when_all_have_ended() -> None:
    gate, ended = threading.Barrier(3), list[int]()

    def work(item: int) -> None:
        gate.wait(LIMIT_S)
        if item == 1:
            raise StorageDenied("no")
        ended.append(item)

    parallel = Parallel(3)

    with pytest.raises(StorageDenied):
        parallel.map(work, range(3))
    assert sorted(ended) == [0, 2]
    parallel.close()


def test_after_an_error_nothing_is_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        raise StorageDenied("no")

    parallel = Parallel(4)
    with pytest.raises(StorageDenied):
        parallel.map(work, range(1000))
    parallel.close()
    assert len(begun) <= 4


def test_callers_share_the_threads_and_none_waits_for_another() -> None:
    """There are more callers than threads: who finds none free makes its requests itself."""
    parallel = Parallel(3)
    done = together(*(lambda: parallel.map(lambda item: item, range(50)) for _ in range(8)), limit_s=LIMIT_S)
    assert done == [list(range(50))] * 8
    parallel.close()


def test_closing_ends_the_threads_and_calls_go_on(threads_left: Callable[[], set[threading.Thread]]) -> None:
    parallel = Parallel(4)
    parallel.close()
    assert parallel.map(str, [1, 2]) == ["1", "2"]
    parallel = Parallel(4)
    parallel.map(str, range(9))
    parallel.close()
    parallel.close()
    assert threads_left() == set()
    assert parallel.map(str, range(9)) == [str(i) for i in range(9)]
    assert threads_left() == set()


class Slow:
    """A storage with the required methods only, whose requests wait until as many are under way as it states."""

    caps = StorageCaps(scope="process", parallel=3)

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.gate = threading.Barrier(3)
        self.deletes: list[list[str]] = []
        self.closed = False

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self.gate.wait(LIMIT_S)
        if key == "refused":
            raise StorageDenied("no")
        if if_absent and key in self.values:
            return False
        self.values[key] = b"".join(data)
        return True

    def get(self, key: str) -> bytes:
        self.gate.wait(LIMIT_S)
        try:
            return self.values[key]
        except KeyError:
            raise KeyNotFound(key) from None

    def delete(self, keys: Iterable[str]) -> None:
        self.deletes.append(list(keys))

    def close(self) -> None:
        self.closed = True


def test_complete_makes_requests_of_many_keys_at_once(threads_left: Callable[[], set[threading.Thread]]) -> None:
    """The gate opens to three requests at a time: one by one they would stay before it."""
    inner = Slow()
    storage = Complete(inner)
    values = {f"k/{i}": [b"%d" % i] for i in range(9)}
    assert list(storage.put_many(values)) == list(values)
    assert list(storage.put_many({"k/3": [b"x"], "new": [b"x"], "k/4": [b"x"]}, if_absent=True)) == ["new"]
    assert storage.get_many(["k/8", "none", "k/0"]) == {"k/8": b"8", "k/0": b"0"}
    with pytest.raises(StorageError, match="no"):
        storage.put_many({"a": [], "refused": [], "b": []})
    assert {"a", "b"} <= inner.values.keys()
    storage.close()
    assert inner.closed
    assert threads_left() == set()


@pytest.mark.parametrize(
    ("keys", "batches"), [(0, []), (1, [1]), (100, [100]), (250, [100, 100, 50]), (900, [300] * 3)]
)
def test_complete_deletes_many_keys_in_few_requests(keys: int, batches: list[int]) -> None:
    inner = Slow()
    storage = Complete(inner)
    storage.delete(f"k/{i}" for i in range(keys))
    storage.close()
    assert sorted(map(len, inner.deletes), reverse=True) == batches
    assert sorted(key for batch in inner.deletes for key in batch) == sorted(f"k/{i}" for i in range(keys))
