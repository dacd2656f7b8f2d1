"""Arrays from Python: kept as they are, refused when they cannot be trained on, and never changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from lambdaml_core.data.arrays import as_rows, rows_batch, write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.errors import DataError, OptionError, OutputExists
from lambdaml_core.storage import FullStorage, open_storage


@pytest.fixture
def store() -> Iterator[FullStorage]:
    storage = open_storage("memory://arrays")
    yield storage
    storage.delete(list(storage.list("")))


X = np.arange(1.0, 25.0).reshape(8, 3)
Y = np.array([0, 1] * 4)


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        (Y, (0, 1)),
        (Y * 2 - 1, (-1, 1)),
        (Y == 1, (False, True)),
        (Y + 0.5, (0.5, 1.5)),
        (Y.astype(float), (0, 1)),
        (np.array(["no", "yes"])[Y], ("no", "yes")),
        (np.array(["no", "yes"], object)[Y], ("no", "yes")),
        (["b", "a"] * 4, ("a", "b")),
    ],
)
def test_labels_of_any_kind_are_numbered_in_order(store: FullStorage, labels: Any, known: tuple[Any, ...]) -> None:
    manifest = write_arrays(X, labels, store, shards=1, validation=0)
    assert manifest.labels == known
    assert [type(label) for label in manifest.labels] == [type(label) for label in known]
    batch = ShardedData(store, manifest, rank=0, size=1, batch_size=8).batch(0)
    rows = [X.tolist().index(row) for row in batch.x.tolist()]
    assert [known[int(c)] for c in batch.y] == [labels[row] for row in rows]


def test_dense_stays_dense_and_sparse_stays_sparse(store: FullStorage) -> None:
    assert write_arrays(X, Y, store, shards=2).layout == "dense"
    store.delete(list(store.list("")))
    assert write_arrays(sparse.coo_matrix(X), Y, store, shards=2).layout == "csr"


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr"])
@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array])
def test_every_sparse_format_becomes_sorted_csr(kind: str, make: Any) -> None:
    x = X * (X % 3 > 0)
    rows = as_rows(make(x).asformat(kind))
    assert isinstance(rows, sparse.csr_matrix)
    assert rows.has_canonical_format
    assert rows.dtype == np.float32
    assert rows.indices.dtype == np.int32
    assert rows.toarray().tolist() == x.tolist()


def test_duplicates_are_added_and_the_users_matrix_stays_as_it_is() -> None:
    values, columns, starts = np.array([1, 2, 4, 8], np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])
    theirs: Any = sparse.csr_matrix((values, columns, starts), shape=(2, 3))
    assert as_rows(theirs).toarray().tolist() == [[2, 0, 5], [0, 8, 0]]
    assert (theirs.data.tolist(), theirs.indices.tolist()) == ([1, 2, 4, 8], [2, 0, 2, 1])


def test_rows_to_predict_on_are_float32_batches() -> None:
    for x in (X, X.astype(int), X.tolist(), X.astype(object), np.asfortranarray(X)):
        batch = rows_batch(x)
        assert (batch.n, batch.x.dtype, batch.x.flags.c_contiguous) == (8, np.float32, True)
        assert batch.x.tolist() == X.tolist()
        assert batch.y.tolist() == [0] * 8
    assert rows_batch(sparse.csr_matrix(X)).x.toarray().tolist() == X.tolist()


def changed(value: Any) -> Any:
    x = X.copy()
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (changed(np.nan), Y, "NaN, infinite"),
        (changed(np.inf), Y, "NaN, infinite"),
        (changed(1e39), Y, "too large for float32"),
        (sparse.csr_matrix(changed(np.nan)), Y, "NaN, infinite"),
        (sparse.csr_matrix(changed(1e39)), Y, "too large for float32"),
        (X[0], Y, "1 dimensions"),
        (X[None], Y, "3 dimensions"),
        (X.astype(str), Y, "no table of numbers"),
        (X.astype(complex), Y, "no table of numbers"),
        (sparse.csr_matrix(X.astype(complex)), Y, "complex128"),
        ([[1, 2], [3]], Y, "no table of numbers"),
        ([["a", 1.0]] * 8, Y, "no table of numbers"),
        (X, Y[:-1], "x has 8 rows and y 7 labels"),
        (X, Y[:, None], "y has 2 dimensions"),
        (X, np.zeros(8), "all rows have the label 0"),
        (X, [0, np.nan] * 4, "y has labels that are NaN"),
        (X, np.array([0, np.nan] * 4, object), "NaN"),
        (X, ["a", None] * 4, "labels that are missing or NaN: row 2 is None"),
        (X, pd.array([1, pd.NA] * 4), "missing|NaN"),
        (X, pd.Series([1, pd.NA] * 4, dtype="Int64"), "missing|NaN"),
        (X, pd.Series([pd.NaT, 3] * 4, dtype=object), "missing or NaN: row 1 is NaT"),
        (X, np.array(["a", 1] * 4, object), "mixes labels of different kinds"),
        (X, [2**60, 2**60 + 1] * 4, "labels from 2\\*\\*53 on"),
        (X, [2.0**53, 1] * 4, "labels from 2\\*\\*53 on"),
        (X, [-(2**63), 1] * 4, "labels from 2\\*\\*53 on"),
        (X, [10**400, 1] * 4, "labels from 2\\*\\*53 on"),
        (X, np.ma.array(Y, mask=Y == 0), "y has masked values"),
        (np.ma.masked_greater(X, 20), Y, "x has masked values"),
        (X, [(1,), (2,)] * 4, "y has 2 dimensions"),
        (X, Y.astype(complex), "dtype complex128"),
        (X[:0], Y[:0], "x has 0 rows"),
        (X[:, :0], Y, "0 columns"),
        (X[:2], Y[:2], "1 rows to train on cannot be cut into 2 shards"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(store: FullStorage, x: Any, y: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        write_arrays(x, y, store, shards=2)
    assert list(store.list("")) == []


def test_masks_that_hide_nothing_and_the_largest_labels_are_taken(store: FullStorage) -> None:
    manifest = write_arrays(np.ma.array(X), np.ma.array(Y * (2**53 - 1)), store, shards=1)
    assert manifest.labels == (0, 2**53 - 1)


def test_masked_numbers_to_learn_are_refused(store: FullStorage) -> None:
    cases: list[tuple[Any, str]] = [(np.ma.array(Y, mask=Y == 0), "y has masked values"), ([1, None] * 4, "missing")]
    for y, says in cases:
        with pytest.raises(DataError, match=says):
            write_arrays(X, y, store, shards=1, target="number")


def test_requests_are_checked_as_for_files(store: FullStorage) -> None:
    with pytest.raises(OptionError, match="shards"):
        write_arrays(X, Y, store, shards=0)
    write_arrays(X, Y, store, shards=1)
    with pytest.raises(OutputExists):
        write_arrays(X, Y, store, shards=1)


def test_many_pieces_make_the_same_shards_as_one(store: FullStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(500, 7)), sparse.random(500, 7, 0.3, "csr", random_state=1)):
        manifests = []
        for size in (1 << 24, 1000, 1):
            monkeypatch.setattr("lambdaml_core.data.arrays.PIECE_BYTES", size)
            manifests.append(write_arrays(x, np.arange(500) % 2, store, shards=3))
            store.delete(list(store.list("")))
        assert manifests[0] == manifests[1] == manifests[2]
