"""Raw rows for a trained model: the bits that training had, in the order of the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import dump_svmlight_file
from tiny_tables import Columns, everything, shuffled, tiny, write_tiny

from lambdaml_core.data.partition import partition
from lambdaml_core.data.raw import RawBatch, frame_rows, read_raw
from lambdaml_core.data.shards import Manifest
from lambdaml_core.data.sources import format_of
from lambdaml_core.errors import DataError
from lambdaml_core.storage import open_storage

X = st.one_of(st.none(), st.integers(-10_000, 10_000).map(lambda n: n / 7))
W = st.one_of(st.none(), st.sampled_from(["a", "b", "a=b", "é"]))


def whole(batches: Iterator[RawBatch]) -> tuple[Any, list[Any] | None]:
    found = list(batches)
    x = np.concatenate([b.x if isinstance(b.x, np.ndarray) else b.x.toarray() for b in found])
    labels = [b.labels.tolist() for b in found if b.labels is not None]
    return x, sum(labels, []) if labels else None  # noqa: RUF017


def raw(source: Path, manifest: Manifest, *, labelled: bool, format: Any = None) -> tuple[Any, list[Any] | None]:
    how, features = manifest.preprocessing, manifest.features
    return whole(read_raw(source, format=format, preprocessing=how, features=features, labelled=labelled))


@st.composite
def tables(draw: st.DrawFn) -> Columns:
    rows = draw(st.lists(st.tuples(X, W, st.sampled_from(["no", "yes"])), min_size=2, max_size=15))
    x, w, label = (list(cells) for cells in zip(*rows, strict=True))
    return {"x": [1.0, 2.0, *x], "w": ["a", "b", *w], "label": ["no", "yes", *label]}


WAYS: list[dict[str, Any]] = [{}, {"layout": "sparse"}, {"scale": "none"}, {"categories": "hash", "hash_features": 3}]


@given(tables(), st.sampled_from(WAYS), st.integers(0, 9))
def test_rows_to_predict_on_are_bit_for_bit_those_of_training(
    tmp_path_factory: pytest.TempPathFactory, columns: Columns, options: dict[str, Any], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    source = write_tiny(folder / "rows.tiny", columns)
    store = open_storage(f"file://{folder}/out")
    manifest = partition(source, store, shards=2, seed=seed, format=tiny(**options))
    train, kept = shuffled(range(1, 1 + len(columns["x"])), seed, 0.2)
    x, labels = raw(source, manifest, labelled=True, format=tiny())
    assert x[train + kept].tobytes() == everything(store, manifest)[0].tobytes()
    assert labels == columns["label"]
    assert manifest.preprocessing is not None
    for rows in (columns, pd.DataFrame(columns)):
        found = frame_rows(rows, manifest.preprocessing)
        assert (found if manifest.layout == "dense" else found.toarray()).tobytes() == x.tobytes()
    store.close()


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Manifest]:
    source = tmp_path / "rows.csv"
    source.write_text("age,job,income\n" + "30,clerk,low\n41,cook,high\n" * 5)
    format = format_of(source, {"label": "income"})
    return source, partition(source, f"file://{tmp_path}/out", shards=1, validation=0, format=format)


def test_the_label_is_where_training_had_it(trained: tuple[Path, Manifest]) -> None:
    source, manifest = trained
    assert raw(source, manifest, labelled=True)[1] == ["low", "high"] * 5
    source.write_text("job,age,other\nclerk,30,1\nking,,2\n")
    x, labels = raw(source, manifest, labelled=False)
    assert labels is None
    assert x.tolist() == [[-1, 1, 0], [0, 0, 0]]
    with pytest.raises(DataError, match="'income'"):
        raw(source, manifest, labelled=True)
    source.write_text("age,job,label\n30,clerk,low\n")
    assert raw(source, manifest, labelled=True, format=format_of(source, {"label": "label"}))[1] == ["low"]


def test_labels_that_look_like_numbers_stay_the_words_that_they_were(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("x,label\n1,10\n2,20\n3,10\n4,20\n")
    words = format_of(source, {"categorical": "label"})
    manifest = partition(source, f"file://{tmp_path}/words", shards=1, format=words)
    assert (manifest.labels, raw(source, manifest, labelled=True)[1]) == (("10", "20"), ["10", "20", "10", "20"])
    manifest = partition(source, f"file://{tmp_path}/numbers", shards=1)
    assert (manifest.labels, raw(source, manifest, labelled=True)[1]) == ((10, 20), [10, 20, 10, 20])


@pytest.mark.parametrize("labelled", [True, False])
def test_columns_that_training_dropped_may_be_of_any_kind(tmp_path: Path, labelled: bool) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "day": pd.to_datetime(["2020-01-01"] * 4), "y": [0, 1, 0, 1]})
    source = tmp_path / "rows.parquet"
    frame.to_parquet(source)
    manifest = partition(
        source, f"file://{tmp_path}/out", shards=1, format=format_of(source, {"label": "y", "drop": ["day"]})
    )
    x, labels = raw(source, manifest, labelled=labelled)
    assert (x.shape, labels) == ((4, 1), [0, 1, 0, 1])
    frame.drop(columns="y").to_parquet(source)
    if labelled:
        with pytest.raises(DataError, match="has no column 'y' with the labels"):
            raw(source, manifest, labelled=True)


def test_files_are_read_as_the_training_data_were_unless_options_are_given(tmp_path: Path) -> None:
    rows = "1;a;no\n2;b;yes\n3;a;no\n4;b;yes\n"
    (tmp_path / "rows.csv").write_text(rows)
    options = {"header": False, "delimiter": ";", "label": "-1"}
    format = format_of(tmp_path / "rows.csv", options)
    manifest = partition(tmp_path / "rows.csv", f"file://{tmp_path}/out", shards=1, validation=0, format=format)
    (tmp_path / "later.csv").write_text("5;b;yes\n6;c;no\n")
    x, labels = raw(tmp_path / "later.csv", manifest, labelled=True)
    assert x.shape == (2, 3)
    assert labels == ["yes", "no"]
    (tmp_path / "other.csv").write_text("2,0,1\nyes,7,b\n")
    again, labels = raw(tmp_path / "other.csv", manifest, labelled=True, format=format_of(tmp_path / "other.csv"))
    assert labels == ["yes"]
    assert again[0, 1:].tolist() == x[0, 1:].tolist(), "the category is the same"


def test_several_files_come_one_after_the_other(trained: tuple[Path, Manifest]) -> None:
    source, manifest = trained
    folder = source.parent / "more"
    folder.mkdir()
    (folder / "b.csv").write_text("age,job,income\n30,clerk,low\n")
    (folder / "a.csv").write_text("age,job,income\n41,cook,high\n")
    for more in (folder, folder / "*.csv"):
        assert raw(more, manifest, labelled=True)[1] == ["high", "low"]


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_rows_that_are_features_are_those_that_scikit_learn_wrote(tmp_path: Path, density: float) -> None:
    x: Any = sparse.random(40, 9, density, "csr", random_state=0)
    y = np.arange(40) % 3
    dump_svmlight_file(x, y, str(tmp_path / "rows.libsvm"), zero_based=False)
    batches = list(read_raw(tmp_path / "rows.libsvm", format=None, preprocessing=None, features=12, labelled=True))
    assert isinstance(batches[0].x, np.ndarray) == (density > 0.5)
    found, labels = whole(iter(batches))
    np.testing.assert_allclose(found[:, :9], x.toarray(), rtol=1e-6)
    assert found.shape == (40, 12)
    assert labels == y.tolist()


def test_matrices_may_be_without_labels(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1])
    np.save(tmp_path / "bare.npy", x)
    np.save(tmp_path / "with.npy", np.column_stack([x, y]))

    def read(name: str, *, labelled: bool) -> tuple[Any, list[Any] | None]:
        return whole(read_raw(tmp_path / name, format=None, preprocessing=None, features=3, labelled=labelled))

    for name, labels in (("bare.npy", None), ("with.npy", y.tolist())):
        found = read(name, labelled=False)
        assert (found[0].tolist(), found[1]) == (x.tolist(), labels)
    assert read("with.npy", labelled=True)[1] == y.tolist()
    with pytest.raises(DataError, match=r"bare.npy, line 1: the label is missing"):
        read("bare.npy", labelled=True)


def test_what_does_not_fit_the_model_is_refused(trained: tuple[Path, Manifest]) -> None:
    source, manifest = trained
    rows = source.parent / "rows.libsvm"
    rows.write_text("1 1:1\n0 2:1 7:1\n")
    for path, how, features, says in (
        (rows, manifest.preprocessing, 3, "has features, and the model takes raw columns"),
        (source, None, 3, "has raw columns, and the model takes features"),
        (rows, None, 6, r"rows.libsvm, line 2: a row has 7 features, and the model has 6"),
    ):
        with pytest.raises(DataError, match=says):
            whole(read_raw(path, format=None, preprocessing=how, features=features, labelled=False))
    for text, says in (
        ("age,income\n1,low\n", "has no column job, which the model needs"),
        ("age,job,income\n1,cook,low\nold,cook,low\n", r"rows.csv, line 3: .*'old'"),
        ("age,job,income\n1,cook,low\n1,cook,\n", r"rows.csv, line 3: the label is missing"),
    ):
        source.write_text(text)
        with pytest.raises(DataError, match=says):
            raw(source, manifest, labelled=True)


def test_frames_that_do_not_fit_the_model_are_refused(trained: tuple[Path, Manifest]) -> None:
    how = trained[1].preprocessing
    assert how is not None
    columns = {"age": [1, 2], "job": ["cook", "cook"]}
    for change, says in (
        ({"age": [1, "old"]}, "row 2 of x: .*'old'"),
        ({"age": [1, np.inf]}, "row 2 of x: .* infinite"),
    ):
        for rows in (columns | change, pd.DataFrame(columns | change)):
            with pytest.raises(DataError, match=says):
                frame_rows(rows, how)
    for bare in ({"age": [1]}, pd.DataFrame({"age": [1]})):
        with pytest.raises(DataError, match="x has no column job"):
            frame_rows(bare, how)
    with pytest.raises(DataError, match="different lengths"):
        frame_rows({"age": [1, 2], "job": ["cook"]}, how)
