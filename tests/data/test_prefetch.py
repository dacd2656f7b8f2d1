"""Rows come in the background: callers wait for what they need alone, and get it or the error whatever the timing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import Manifest, ShardedData
from lambdaml_core.errors import DataError, StorageError
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import Layer

ROWS, SHARDS = 80, 4
LIMIT_S = 30.0  # for what must happen: it is over at once where it does


class Gated(Layer):
    """A storage whose values come only once their gates are open."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.asked: list[str] = []
        self.gates = {key: threading.Event() for key in inner.list("")}

    def get(self, key: str) -> Buffer:
        self.asked.append(key)
        assert self.gates[key].wait(LIMIT_S)
        return self.inner.get(key)

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[f"train-{number:05}.bin"].set()


def written(kind: Any = np.asarray) -> tuple[FullStorage, Manifest]:
    store = open_storage(f"memory://{uuid.uuid4()}")
    x = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
    return store, write_arrays(kind(x), np.arange(ROWS) % 2, store, shards=SHARDS, validation=0)


def whole(data: ShardedData) -> list[bytes]:
    """All that a pass gives."""
    arrays: list[Any] = []
    for block in data.blocks():
        x: Any = block.x
        arrays += [block.y, block.weights, *([x] if isinstance(x, np.ndarray) else [x.data, x.indices, x.indptr])]
    return [array.tobytes() for array in arrays]


def test_callers_wait_for_the_rows_that_they_need_alone() -> None:
    store, manifest = written()
    gated = Gated(store)
    waits: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.append("begin")
        gated.open(len(waits) // 2)  # the next gate opens when somebody really waits
        yield
        waits.append("end")

    data = ShardedData(gated, manifest, rank=0, size=1, batch_size=10, waiting=waiting)
    assert waits == []
    for step in range(ROWS // 10):
        assert data.batch(step).n == 10
        shards_needed = step // 2 + 1
        assert waits == ["begin", "end"] * shards_needed
    data.wait()
    list(data.blocks())
    assert len(waits) == 2 * SHARDS


def test_the_next_shard_is_fetched_while_one_is_taken_in() -> None:
    store, manifest = written()
    following = {a.key: b.key for a, b in zip(manifest.train, manifest.train[1:], strict=False)}

    class Overlapping(Layer):
        """Says that a value is intact, which is asked when it is taken in, once the next one was asked for."""

        def __init__(self, inner: FullStorage) -> None:
            super().__init__(inner)
            self.asked = {shard.key: threading.Event() for shard in manifest.train}

        def get(self, key: str) -> Buffer:
            self.asked[key].set()
            return self.inner.get(key)

        def intact(self, key: str, data: Buffer) -> bool:
            later = [k for k in self.asked if k > following.get(key, key)]
            assert not any(self.asked[k].is_set() for k in later)  # memory for two at a time
            return key not in following or self.asked[following[key]].wait(LIMIT_S)

    ShardedData(Overlapping(store), manifest, rank=0, size=1, batch_size=10).wait()


@pytest.mark.parametrize("bad", range(SHARDS))
def test_rows_before_a_damaged_shard_are_good_and_those_after_it_raise_each_time(bad: int) -> None:
    store, manifest = written()
    key = manifest.train[bad].key
    store.put(key, [bytes(store.get(key))[:-1]])
    for _ in range(2):
        data = ShardedData(store, manifest, rank=0, size=1, batch_size=20)
        for step in [*range(SHARDS), *reversed(range(SHARDS))]:
            if step < bad:
                assert data.batch(step).n == 20
            else:
                with pytest.raises(DataError, match=f"{key} is damaged"):
                    data.batch(step)
        for _ in range(2):
            with pytest.raises(DataError, match=f"{key} is damaged"):
                data.wait()


def test_an_error_of_the_storage_is_raised_in_its_place() -> None:
    store, manifest = written()

    class Failing(Gated):
        def get(self, key: str) -> Buffer:
            if key == manifest.train[1].key:
                raise StorageError("the disk is gone")
            return super().get(key)

    failing = Failing(store)
    data = ShardedData(failing, manifest, rank=0, size=1, batch_size=20)
    failing.open(0)  # after the second has failed, perhaps
    assert data.batch(0).n == 20
    with pytest.raises(StorageError, match="the disk is gone"):
        data.batch(1)


def test_close_ends_loading_frees_who_waits_and_keeps_what_is_there() -> None:
    store, manifest = written()
    gated = Gated(store)
    gated.open(0)
    entered = threading.Event()
    errors: list[Exception] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        if threading.current_thread() is waiter:
            entered.set()
        yield

    def wait_for_the_last() -> None:
        try:
            data.batch(SHARDS - 1)
        except DataError as e:
            errors.append(e)
        gated.open(1, 2, 3)  # close waits for the request that is under way

    waiter = threading.Thread(target=wait_for_the_last)
    data = ShardedData(gated, manifest, rank=0, size=1, batch_size=20, waiting=waiting)
    data.batch(0)
    waiter.start()
    assert entered.wait(LIMIT_S)
    data.close()
    waiter.join()
    assert "closed before they were loaded" in str(errors)
    assert gated.asked in ([manifest.train[0].key], [shard.key for shard in manifest.train[:2]])
    assert data.batch(0).n == 20
    with pytest.raises(DataError, match="closed before they were loaded"):
        data.wait()
    data.close()


@given(
    kind=st.sampled_from([np.asarray, sparse.csr_matrix]),
    size=st.integers(1, 3),
    rank=st.integers(0, 2),
    asked=st.lists(st.integers(0, 7), max_size=4),
    opened=st.permutations(range(SHARDS)),
)
def test_whatever_the_timing_the_rows_are_the_same(
    kind: Any, size: int, rank: int, asked: list[int], opened: list[int]
) -> None:
    store, manifest = written(kind)
    gated = Gated(store)
    waits = 0

    @contextmanager
    def waiting() -> Iterator[None]:
        nonlocal waits
        waits += 1
        if waits == 1:  # in another thread the gates open in any order, while batches are asked for
            threading.Thread(target=gated.open, args=opened).start()
        yield

    where: dict[str, Any] = {"rank": rank % size, "size": size, "batch_size": 10, "class_weight": (1, 5)}
    reference = ShardedData(store, manifest, **where)
    reference.wait()
    data = ShardedData(gated, manifest, waiting=waiting, **where)
    for step in asked:
        assert np.array_equal(data.batch(step).y, reference.batch(step).y)
    assert whole(data) == whole(reference)
