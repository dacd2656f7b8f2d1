"""Manifests and a rank's rows: the law of batches, views, alignment, and damage that is noticed."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.order import sort_keys
from lambdaml_core.data.shards import MANIFEST_KEY, Manifest, Shard, ShardedData
from lambdaml_core.errors import DataError, KeyNotFound
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import Layer


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[FullStorage]:
    storage = open_storage(f"memory://{request.node.name.replace('[', '-').rstrip(']')}")
    yield storage
    storage.delete(list(storage.list("")))


def table(rows: int, features: int = 5) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows that are all different, so that one can be told from another by its first cell."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, features)).astype(np.float32) * (rng.random((rows, features)) < 0.5)
    x[:, 0] = np.arange(1, rows + 1)
    return x, np.arange(rows) % 2


def dense(x: Any) -> Any:
    return x if isinstance(x, np.ndarray) else x.toarray()


def cells(x: Any) -> Any:
    """The array that the stored cells are in."""
    return x if isinstance(x, np.ndarray) else x.data


@given(
    rows=st.integers(4, 60),
    shards=st.integers(1, 4),
    size=st.integers(1, 9),
    batch_size=st.integers(1, 70),
    kind=st.sampled_from([np.asarray, sparse.csr_matrix]),
    weights=st.sampled_from([None, (0.5, 3.0)]),
)
def test_batches_are_the_stated_rows_of_the_stated_order(
    rows: int, shards: int, size: int, batch_size: int, kind: Any, weights: tuple[float, float] | None
) -> None:
    x, y = table(rows)
    store = open_storage("memory://law")
    store.delete(list(store.list("")))
    manifest = write_arrays(kind(x), y, store, shards=shards, seed=3, validation=0)
    order = np.argsort(sort_keys(3, np.arange(rows)))
    steps = -(-rows // batch_size)
    for r in range(size):
        data = ShardedData(store, manifest, rank=r, size=size, batch_size=batch_size, class_weight=weights)
        mine = order[r * rows // size : (r + 1) * rows // size]
        assert (data.rows, data.features, data.classes, data.steps_per_epoch) == (len(mine), 5, 2, steps)
        for t in range(2 * steps):
            wanted = mine[t % steps * len(mine) // steps : (t % steps + 1) * len(mine) // steps]
            batch = data.batch(t)
            assert batch.n == len(wanted)
            assert dense(batch.x).tolist() == x[wanted].tolist()
            assert batch.y.tolist() == y[wanted].tolist()
            assert batch.x.dtype == batch.y.dtype == np.float32
            assert (batch.weights is None) == (weights is None)
            if weights is not None and batch.weights is not None:
                assert batch.weights.dtype == np.float32
                assert batch.weights.tolist() == [weights[c] for c in y[wanted]]
        blocks = list(data.blocks())
        assert [row for b in blocks for row in dense(b.x).tolist()] == x[mine].tolist()
        assert [label for b in blocks for label in b.y] == y[mine].tolist()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_batches_view_aligned_arrays(store: FullStorage, kind: Any) -> None:
    x, y = table(1000)
    manifest = write_arrays(kind(x), y, store, shards=3)
    data = ShardedData(store, manifest, rank=1, size=2, batch_size=100, class_weight=(1, 2))
    first, again, other = data.batch(0), data.batch(data.steps_per_epoch), data.batch(1)
    values = [cells(b.x) for b in (first, again, other)]
    assert np.shares_memory(values[0], values[1])
    assert values[0].ctypes.data % 64 == first.y.ctypes.data % 64 == 0
    assert values[0].ctypes.data + values[0].nbytes == values[2].ctypes.data
    assert first.weights is not None
    assert first.weights.ctypes.data % 64 == 0
    assert again.weights is not None
    assert np.shares_memory(first.weights, again.weights)
    whole = list(data.blocks())
    assert np.shares_memory(values[2], cells(whole[0].x))
    if isinstance(first.x, np.ndarray):
        assert first.x.flags.c_contiguous
    else:
        assert first.x.indices.dtype == first.x.indptr.dtype == np.int32
        assert first.x.indices.ctypes.data % 64 == 0
    stored = sum(cells(b.x).nbytes for b in whole)
    extra = 0 if isinstance(first.x, np.ndarray) else stored + 8 * (data.rows + 1)
    assert data.bytes == data.rows * 8 + stored + extra


def test_a_pass_is_cut_into_blocks_that_fit_the_caches(store: FullStorage) -> None:
    x, y = table(20_000, 28)
    manifest = write_arrays(x, y, store, shards=1, validation=0)
    sizes = [block.n for block in ShardedData(store, manifest, rank=0, size=1, batch_size=1).blocks()]
    assert sum(sizes) == 20_000
    assert 1000 < sizes[0] <= 8192
    assert len(set(sizes[:-1])) == 1


def test_a_split_without_rows_has_one_empty_batch(store: FullStorage) -> None:
    x, y = table(10)
    manifest = write_arrays(x, y, store, shards=1, validation=0)
    data = ShardedData(store, manifest, rank=0, size=1, batch_size=3, split="validation")
    assert (data.rows, data.steps_per_epoch, data.batch(0).x.shape, list(data.blocks())) == (0, 1, (0, 5), [])


def test_a_manifest_is_read_back_and_stands_for_the_data(store: FullStorage) -> None:
    x, y = table(30)
    manifest = write_arrays(x, np.array(["no", "yes"])[y], store, shards=2)
    assert Manifest.load(store) == Manifest.from_json(manifest.to_json()) == manifest
    assert (manifest.labels, manifest.classes, manifest.rows, manifest.validation_rows) == (("no", "yes"), 2, 24, 6)
    assert manifest.nbytes == sum(len(bytes(store.get(k))) for k in store.list("") if k != MANIFEST_KEY)
    other = dataclasses.replace(manifest, seed=1)
    assert manifest.checksum == Manifest.load(store).checksum != other.checksum


def test_what_is_no_manifest_is_refused(store: FullStorage) -> None:
    with pytest.raises(DataError, match="there is no partition"):
        Manifest.load(store)
    good = write_arrays(*table(30), store, shards=2).to_json()
    for bad in (
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        good.replace(b'"rows"', b'"lines"'),
        good.replace(b'"labels"', b'"l"'),
    ):
        with pytest.raises(DataError, match="is not the manifest"):
            Manifest.from_json(bad)
    with pytest.raises(DataError, match="version 3"):
        Manifest.from_json(good.replace(b'"schema": 2', b'"schema": 3'))


SHARD = {"key": "train-00000.bin", "rows": 8, "entries": 40, "bytes": 256, "checksum": "0"}
MANIFEST: dict[str, Any] = {
    **{"schema": 2, "layout": "dense", "features": 5, "labels": ["no", "yes"], "counts": [4, 4]},
    **{"preprocessing": None, "seed": 0, "train": [SHARD], "validation": []},
}


NO_FIELD: dict[str, list[Any]] = {
    "features": [None, 1.5, "x", [], True, 0, -5, 10**18, 2**31],
    "labels": ["ny", ["no"], ["no", "no"], [1, "no"], [0, None], [0, math.nan], [[0], [1]]],
    "counts": ["44", [8], [4, "4"], [4.0, 4.0], [9, -1], [3, 4], [4, True], None],
    "preprocessing": [3, [], "none", {}, {"numbers": ["x"]}],
    "layout": ["coo", None, ["dense"]],
    "seed": ["0", None],
    "train": [[], {}, [None], [{}], "x", [SHARD | {"more": 1}]],
}
NO_SHARD: dict[str, list[Any]] = {
    "rows": [0, -1, 9, 8.0, "8", 10**30],
    "entries": [39, -40, None],
    "bytes": [0, 192, 257],
    "key": [None],
}
CHANGES: list[dict[str, Any]] = [{name: value} for name, values in NO_FIELD.items() for value in values]
CHANGES += [{"train": [SHARD | {name: value}]} for name, values in NO_SHARD.items() for value in values]


@pytest.mark.parametrize("changes", CHANGES, ids=repr)
def test_a_manifest_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    assert Manifest.from_json(json.dumps(MANIFEST).encode()).rows == 8
    with pytest.raises(DataError, match="is not the manifest of a partition"):
        Manifest.from_json(json.dumps(MANIFEST | changes).encode())


def test_preprocessing_must_make_the_features_of_the_rows() -> None:
    numbers: dict[str, Any] = {"numbers": list("abcde"), "means": [0.0] * 5, "deviations": [1.0] * 5, "standard": True}
    words: dict[str, Any] = {"words": [], "categories": [], "hash_features": None, "label": None, "label_words": False}
    how = {**numbers, **words, "layout": "dense", "reading": {}}
    good = Manifest.from_json(json.dumps(MANIFEST | {"preprocessing": how}).encode())
    assert Manifest.from_json(good.to_json()) == good
    for changes in ({"hash_features": 3}, {"layout": "csr"}, {"words": ["w"], "categories": [["a"]]}):
        with pytest.raises(DataError, match="is not the manifest of a partition"):
            Manifest.from_json(json.dumps(MANIFEST | {"preprocessing": how | changes}).encode())


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("place", [0, 70, -1])
def test_a_damaged_shard_is_noticed(store: FullStorage, kind: Any, place: int) -> None:
    manifest = write_arrays(kind(table(100)[0]), table(100)[1], store, shards=2)
    key = manifest.train[1].key
    good = bytearray(store.get(key))
    good[place] ^= 1
    for bad in (bytes(good), bytes(good)[:-64]):
        store.put(key, [bad])
        ShardedData(store, manifest, rank=0, size=2, batch_size=10).wait()  # its rows are in the other shard
        data = ShardedData(store, manifest, rank=1, size=2, batch_size=10)
        for step in (0, 1, 0):
            with pytest.raises(DataError, match=f"{key} is damaged"):
                data.batch(step)


class Replaced(Layer):
    """A storage that says of every view that the bytes have changed under it."""

    def intact(self, key: str, data: Buffer) -> bool:
        return False


def test_a_shard_that_changes_while_it_is_read_is_noticed(store: FullStorage) -> None:
    manifest = write_arrays(*table(100), store, shards=2)
    with pytest.raises(DataError, match="replaced while it was read"):
        ShardedData(Replaced(store), manifest, rank=0, size=1, batch_size=10).wait()


def test_a_missing_shard_is_the_storages_error(store: FullStorage) -> None:
    manifest = write_arrays(*table(100), store, shards=2)
    store.delete([manifest.train[0].key])
    with pytest.raises(KeyNotFound):
        next(ShardedData(store, manifest, rank=0, size=2, batch_size=10).blocks())


def test_every_class_needs_a_weight(store: FullStorage) -> None:
    manifest = write_arrays(*table(100), store, shards=2)
    with pytest.raises(DataError, match="2 classes have 3 weights"):
        ShardedData(store, manifest, rank=0, size=1, batch_size=10, class_weight=(1, 2, 3))


def test_a_rank_reads_only_the_shards_with_its_rows(store: FullStorage) -> None:
    manifest = write_arrays(*table(100), store, shards=4, validation=0)
    store.delete([shard.key for shard in manifest.train if shard.key != "train-00002.bin"])
    data = ShardedData(store, manifest, rank=2, size=4, batch_size=10)
    data.wait()
    assert data.rows == 25


def test_sections_start_at_multiples_of_64_bytes(store: FullStorage) -> None:
    x, y = table(101)
    (shard,) = write_arrays(x, y, store, shards=1, validation=0).train
    data = bytes(store.get(shard.key))
    order = np.argsort(sort_keys(0, np.arange(101)))
    assert shard == Shard("train-00000.bin", 101, 505, len(data), shard.checksum)
    assert np.frombuffer(data, "<f4", 101).tolist() == y[order].tolist()
    assert np.frombuffer(data, "<f4", 505, 448).tolist() == x[order].ravel().tolist()


LOADS_DENSE = """
import sys
from lambdaml_core.data.shards import Manifest, ShardedData
from lambdaml_core.storage import open_storage
from lambdaml_core.specs import Reference
options = Reference("storage", "file", "lambdaml_core.storage.file:FileStorage", sys.argv[2])
store = open_storage(sys.argv[1], options)
ShardedData(store, Manifest.load(store), rank=0, size=1, batch_size=10).batch(0)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_worker_with_dense_rows_imports_nothing_that_it_does_not_need(tmp_path: Any) -> None:
    from lambdaml_core.builtin import FileOptions

    url = f"file://{tmp_path}/out"
    write_arrays(*table(30), open_storage(url), shards=1)
    command = [sys.executable, "-c", LOADS_DENSE, url, f"{FileOptions.__module__}:FileOptions"]
    modules = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "numpy" in modules
    assert not modules & {"scipy", "click", "rich", "pluggy"}
