"""Frames from Python are preprocessed as files of tables are, arrays are not; labels that are known, or to learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tiny_tables import everything, shuffled

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.raw import frame_rows
from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import DataError
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, open_storage

ROWS = st.tuples(st.integers(-99, 99), st.integers(-999, 999).map(lambda n: n / 8), st.sampled_from("abcd"))
Y = ["no", "yes"] * 10


@pytest.fixture
def store() -> Iterator[FullStorage]:
    storage = open_storage("memory://frames")
    yield storage
    storage.delete(list(storage.list("")))


def options(**values: Any) -> Reference:
    name = f"{TableOptions.__module__}:TableOptions"
    return Reference("data_format", "frame", "lambdaml_core.data.frames:Frames", name, values)


def some_frame(rows: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    words = rng.choice(["p", "q", "r"], rows).tolist()
    return pd.DataFrame({"x": rng.normal(5, 2, rows), "w": words, "n": rng.integers(0, 9, rows)})


@given(st.lists(ROWS, min_size=4, max_size=20), st.integers(0, 9), st.sampled_from(["dense", "sparse"]))
def test_features_are_those_of_scikit_learn_fitted_on_the_rows_to_train_on(
    rows: list[tuple[int, float, str]], seed: int, layout: str
) -> None:
    frame = pd.DataFrame(rows, columns=["n", "x", "w"])
    y = [str(i % 3) for i in range(len(rows))]
    store = open_storage("memory://fitted")
    manifest = write_arrays(frame, y, store, shards=1, seed=seed, format=options(layout=layout))
    train, kept = shuffled(range(len(rows)), seed, 0.2)
    transformer = make_column_transformer(
        (StandardScaler(), ["n", "x"]), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["w"])
    )
    expected = transformer.fit(frame.iloc[train]).transform(frame)
    x, numbers = everything(store, manifest)
    np.testing.assert_allclose(x, expected[train + kept], rtol=1e-5, atol=1e-5)
    assert [manifest.labels[int(c)] for c in numbers] == [y[i] for i in train + kept]
    assert manifest.preprocessing is not None
    again = frame_rows(frame, manifest.preprocessing)
    again = again if layout == "dense" else again.toarray()
    assert again[train + kept].tobytes() == x.tobytes()
    store.delete(list(store.list("")))


def test_frames_of_numbers_are_scaled_and_arrays_are_not(store: FullStorage) -> None:
    frame = some_frame()[["x", "n"]]
    manifest = write_arrays(frame, Y, store, shards=1, validation=0)
    assert manifest.preprocessing is not None
    assert manifest.preprocessing["numbers"] == ["x", "n"]
    np.testing.assert_allclose(everything(store, manifest)[0].mean(axis=0), 0, atol=1e-6)
    store.delete(list(store.list("")))
    manifest = write_arrays(frame.to_numpy(), Y, store, shards=1, validation=0)
    assert manifest.preprocessing is None
    found = everything(store, manifest)[0]
    assert sorted(found.tolist()) == sorted(frame.to_numpy(np.float32).tolist())


def test_many_blocks_and_pieces_make_the_same_shards_as_one(
    store: FullStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests: list[Manifest] = []
    for size in (1 << 24, 300, 1):
        monkeypatch.setattr("lambdaml_core.data.arrays.PIECE_BYTES", size)
        how = manifests[0].preprocessing if manifests else None  # sums are rounded by blocks
        manifests.append(write_arrays(some_frame(), Y, store, shards=3, preprocessing=how))
        store.delete(list(store.list("")))
    assert manifests[0] == manifests[1] == manifests[2]


def test_all_columns_are_features_unless_options_say_otherwise(store: FullStorage) -> None:
    frame = some_frame().assign(label=1.0)
    manifest = write_arrays(frame, Y, store, shards=1)
    assert manifest.features == 6
    store.delete(list(store.list("")))
    manifest = write_arrays(frame, Y, store, shards=1, format=options(label="label", drop=("n",)))
    assert manifest.features == 4


def test_a_preprocessing_and_labels_that_are_given_are_taken_as_they_are(store: FullStorage) -> None:
    first = write_arrays(some_frame(), Y, store, shards=1)
    store.delete(list(store.list("")))
    frame = some_frame().assign(extra=0, w="new").iloc[:, ::-1]
    labels = ("yes", "maybe", "no")
    second = write_arrays(frame, Y, store, shards=1, preprocessing=first.preprocessing, labels=labels)
    assert (second.preprocessing, second.features) == (first.preprocessing, first.features)
    assert (second.labels, second.counts[1], sum(second.counts)) == (labels, 0, 16)
    x, y = everything(store, second)
    assert x[:, 2:].sum() == 0
    order = [i for part in shuffled(range(20), 0, 0.2) for i in part]
    assert [labels[int(c)] for c in y] == [Y[i] for i in order]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, object])
def test_numbers_to_learn_are_kept_as_float32(store: FullStorage, kind: Any) -> None:
    y = np.array([3, -1, 0, 7, 100], kind)
    manifest = write_arrays(np.arange(5.0).reshape(5, 1), y, store, shards=1, validation=0, target="number")
    assert (manifest.labels, manifest.counts, manifest.classes) == ((), (), 0)
    x, found = everything(store, manifest)
    assert found.tolist() == [y[int(i)] for i in x[:, 0]]


def test_any_number_of_classes(store: FullStorage) -> None:
    y = np.arange(60) % 20
    manifest = write_arrays(np.arange(60.0)[:, None], y, store, shards=2, validation=0)
    assert (manifest.labels, manifest.counts) == (tuple(range(20)), (3,) * 20)
    x, found = everything(store, manifest)
    assert found.tolist() == (x[:, 0] % 20).tolist()


def changed(**columns: Any) -> pd.DataFrame:
    return some_frame().assign(**columns)


@pytest.mark.parametrize(
    ("x", "y", "more", "says"),
    [
        (some_frame(), [*Y, "no"], {}, "x has 20 rows and y 21 labels"),
        (some_frame(), Y[:-1], {}, "x has 20 rows and y 19 labels"),
        (some_frame(), Y, {"labels": ("no", "maybe")}, "y has the label 'yes', which is not among those known"),
        (some_frame(), Y, {"labels": (0, 1)}, "y has the label 'no', which"),
        (some_frame(), Y, {"target": "number"}, "y is no column of numbers"),
        (some_frame(), [1.0, np.nan] * 10, {"target": "number"}, "y has numbers that are NaN"),
        (some_frame(), [1.0, 1e39] * 10, {"target": "number"}, "y has numbers that are NaN, infinite or too large"),
        (changed(x=np.inf), Y, {}, "row 1 of x: .*infinite"),
        (some_frame()[[]], Y, {}, "no columns to learn from"),
        (some_frame()[:0], [], {}, "x has 0 rows"),
        (some_frame(), Y, {"format": options(most_categories=2)}, "the column w has more than 2 categories"),
        (some_frame().to_numpy()[:, ::2], Y, {"preprocessing": {"numbers": []}}, "x has features"),
        (np.arange(10_001.0)[:, None], np.arange(10_001), {}, "more than 10,000 different labels"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    store: FullStorage, x: Any, y: Any, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        write_arrays(x, y, store, shards=2, **more)
    assert list(store.list("")) == []
