"""Tables become partitions: each row once, fitted on the rows to train on alone, whatever the processes and files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tiny_tables import Columns, everything, shuffled, tiny, write_tiny

from lambdaml_core.data.partition import partition
from lambdaml_core.data.spool import LINES_PER_FILE
from lambdaml_core.errors import DataError
from lambdaml_core.storage import open_storage

NUMBERS = st.one_of(st.none(), st.integers(-8000, 8000).map(lambda n: n / 8), st.just(7.25))
WORDS = st.one_of(st.none(), st.sampled_from("abcdef"), st.just("a=b"))


@st.composite
def tables(draw: st.DrawFn) -> Columns:
    """Two columns of numbers, two of words, labels that are words."""
    rows = draw(st.lists(st.tuples(NUMBERS, NUMBERS, WORDS, WORDS), min_size=4, max_size=25))
    x, z, w, v = (list(cells) for cells in zip(*rows, strict=True))
    labels = [draw(st.sampled_from(["no", "yes", "maybe"])) for _ in rows]
    return {"x": [1.5, *x], "w": ["a", *w], "label": ["other", *labels], "z": [-3.0, *z], "v": ["b", *v]}


def expected(columns: Columns, train: list[int]) -> Any:
    """The features of all rows as scikit-learn makes them, fitted on some of them."""
    frame = pd.DataFrame({name: pd.Series(columns[name], dtype=float) for name in ("x", "z")})
    frame = frame.assign(**{name: pd.Series(columns[name], dtype=object).fillna("-") for name in ("w", "v")})
    transformer = make_column_transformer(
        (StandardScaler(), ["x", "z"]),  # NaN counts for nothing, and stays
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["w", "v"]),
    )
    made = transformer.fit(frame.iloc[train]).transform(frame)
    no_word = np.char.endswith(transformer.get_feature_names_out().astype(str), "_-")
    return np.nan_to_num(made[:, ~no_word])


def numbers_of(columns: Columns) -> list[int]:
    """The rows' numbers; the first line of a file has the header."""
    return list(range(1, 1 + len(columns["label"])))


@given(tables(), st.integers(0, 99), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from(["dense", "sparse"]))
def test_features_are_those_of_scikit_learn_fitted_on_the_rows_to_train_on(
    tmp_path_factory: pytest.TempPathFactory, columns: Columns, seed: int, validation: float, layout: str
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    source = write_tiny(folder / "rows.tiny", columns)
    train, kept = shuffled(numbers_of(columns), seed, validation)
    assume(all(any(columns[name][i] is not None for i in train) for name in ("x", "z")))
    assume(len({*columns["label"]}) > 1)
    store = open_storage(f"file://{folder}/out")
    manifest = partition(source, store, shards=1, seed=seed, validation=validation, format=tiny(layout=layout))
    x, y = everything(store, manifest)
    np.testing.assert_allclose(x, expected(columns, train)[train + kept], rtol=1e-5, atol=1e-5)
    assert [manifest.labels[int(c)] for c in y] == [columns["label"][i] for i in train + kept]
    assert manifest.labels == tuple(sorted({*columns["label"]}))
    assert manifest.counts == tuple(int((y[: len(train)] == c).sum()) for c in range(manifest.classes))
    assert manifest.layout == {"dense": "dense", "sparse": "csr"}[layout]
    store.close()


def values_of(folder: Path) -> dict[str, bytes]:
    store = open_storage(f"file://{folder}")
    return {key: bytes(store.get(key)) for key in store.list("")}


def some_table(rows: int = 200, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)

    def holes(cells: Any) -> list[Any]:
        return [None if rng.random() < 0.1 else cell for cell in cells.tolist()]

    return {
        "x": holes(rng.normal(3, 7, rows)),
        "w": holes(rng.choice(list("pqrst"), rows)),
        "z": holes(rng.exponential(1e-3, rows)),
        "v": holes(rng.choice([f"v{i}" for i in range(60)], rows)),
        "label": rng.choice(["b", "c", "a"], rows).tolist(),
    }


@pytest.mark.parametrize("options", [{}, {"categories": "hash", "hash_features": 32}, {"scale": "none"}])
def test_processes_change_no_byte(tmp_path: Path, options: dict[str, Any]) -> None:
    for name in ("a", "b"):
        write_tiny(tmp_path / f"{name}.tiny", some_table(seed=ord(name)))
    for processes in (1, 2, 3):
        out = f"file://{tmp_path}/{processes}"
        partition(tmp_path / "*.tiny", out, shards=3, format=tiny(**options), processes=processes)
    expected_values = values_of(tmp_path / "1")
    assert len(expected_values) == 7
    assert values_of(tmp_path / "2") == values_of(tmp_path / "3") == expected_values


def test_the_number_of_shards_changes_no_row(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "rows.tiny", some_table())
    found = []
    for shards in (1, 5):
        store = open_storage(f"file://{tmp_path}/{shards}")
        manifest = partition(source, store, shards=shards, format=tiny())
        found.append((*(a.tobytes() for a in everything(store, manifest)), manifest.preprocessing, manifest.counts))
    assert found[0] == found[1]


def test_many_pieces_make_the_same_shards_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tiny(tmp_path / "rows.tiny", some_table())
    for size in (1 << 24, 500, 1):
        monkeypatch.setattr("lambdaml_core.data.merge.PIECE_BYTES", size)
        partition(source, f"file://{tmp_path}/{size}", shards=2, format=tiny())
    assert values_of(tmp_path / "1") == values_of(tmp_path / "500") == values_of(tmp_path / str(1 << 24))


def test_rows_of_several_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Row n of file f has the number f * 2^40 + n; so the order is known without the partitioner."""
    folder = tmp_path / "rows"
    folder.mkdir()
    columns: Columns = {"x": [float(i) for i in range(20)], "label": ["a", "b"] * 10}
    numbers = []
    for file, (name, rows) in enumerate({"a": slice(0, 7), "b": slice(7, 8), "c": slice(8, 20)}.items()):
        part = {column: cells[rows] for column, cells in columns.items()}
        write_tiny(folder / f"{name}.tiny", part)
        numbers += [file * LINES_PER_FILE + n for n in numbers_of(part)]
    train, kept = shuffled(numbers, 3, 0.25)
    store = open_storage(f"file://{tmp_path}/out")
    manifest = partition(folder, store, shards=2, seed=3, validation=0.25, format=tiny(scale="none"))
    x, y = everything(store, manifest)
    assert x[:, 0].tolist() == train + kept
    assert y.tolist() == [i % 2 for i in train + kept]


def test_a_preprocessing_and_labels_that_are_given_are_taken_as_they_are(tmp_path: Path) -> None:
    one, other = some_table(seed=1), some_table(seed=2)
    first = partition(write_tiny(tmp_path / "1.tiny", one), f"file://{tmp_path}/1", shards=1, format=tiny())
    known = ("c", "x", "a", "b")
    store = open_storage(f"file://{tmp_path}/2")
    source = write_tiny(tmp_path / "2.tiny", {"extra": other["x"], **other, "w": [None, "new", *other["w"][2:]]})
    second = partition(source, store, shards=1, seed=4, format=tiny(), preprocessing=first.preprocessing, labels=known)
    assert second.preprocessing == first.preprocessing
    assert first.preprocessing is not None
    assert (second.labels, second.features, second.counts[1]) == (known, first.features, 0)
    x, y = everything(store, second)
    order = [*itertools.chain(*shuffled(numbers_of(other), 4, 0.2))]
    assert [second.labels[int(c)] for c in y] == [other["label"][i] for i in order]
    means, deviations = (np.array(first.preprocessing[key]) for key in ("means", "deviations"))
    raw = np.array([[np.nan if other[n][i] is None else other[n][i] for n in ("x", "z")] for i in order], float)
    np.testing.assert_allclose(x[:, :2], np.nan_to_num((raw - means) / deviations), rtol=1e-6)
    assert x[[order.index(0), order.index(1)], 2:7].sum() == 0  # w is missing, or is a word that nobody knows


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_numbers_to_learn_are_kept_as_float32(tmp_path: Path, layout: str) -> None:
    columns = {"x": [1.0, 2.0, 3.0, 4.0, 5.0], "label": [0.1, 1e-3, -7.0, 1e30, 0.1]}
    source = write_tiny(tmp_path / "rows.tiny", columns)
    store = open_storage(f"file://{tmp_path}/out")
    manifest = partition(source, store, shards=1, target="number", format=tiny(layout=layout))
    assert (manifest.labels, manifest.counts, manifest.classes) == ((), (), 0)
    order = [*itertools.chain(*shuffled(numbers_of(columns), 0, 0.2))]
    assert everything(store, manifest)[1].tolist() == [np.float32(columns["label"][i]) for i in order]


# --- what is refused


def refused(tmp_path: Path, columns: Columns, says: str, *, options: dict[str, Any] | None = None, **more: Any) -> None:
    source = write_tiny(tmp_path / "rows.tiny", columns)
    for processes in (1, 2):
        with pytest.raises(DataError, match=says):
            partition(
                source, f"file://{tmp_path}/out", shards=1, format=tiny(**options or {}), processes=processes, **more
            )
    assert [p.name for p in tmp_path.iterdir()] == ["rows.tiny"]


X = [1.0, 2.0, 3.0, 4.0, 5.0]
AB = ["a", "b", "a", "b", "a"]


def test_labels_that_cannot_be_are_refused_with_their_line(tmp_path: Path) -> None:
    refused(tmp_path, {"x": X, "label": ["a", "b", "a", None, "b"]}, "rows.tiny, line 5: the label is missing")
    refused(tmp_path, {"x": X, "label": [1.0, 2.0, 1.0, None, 1.0]}, "rows.tiny, line 5: the label is missing")
    refused(tmp_path, {"x": X, "label": AB}, "line 2: the label is 'a', which is a word", target="number")
    refused(
        tmp_path, {"x": X, "label": [1.0, 2, 3, 4, 1e39]}, r"line 6: .* 1e\+39, which is too large", target="number"
    )
    refused(tmp_path, {"x": X, "label": AB}, "line 3: the label is 'b', which is not among", labels=["a", "c"])
    refused(tmp_path, {"x": X, "label": [1.0, 0, 1, 0, 2]}, "line 6: the label is 2, which is not", labels=[0, 1])
    refused(tmp_path, {"x": X, "label": [1.0, 0, 1, 0, 2]}, "line 2: the label is 1, which is not", labels=["a", "b"])
    refused(tmp_path, {"x": X, "label": ["a"] * 5}, "all rows have the label a")


def test_too_many_labels_are_classes_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.data.labels.MOST_CLASSES", 4)
    source = write_tiny(tmp_path / "rows.tiny", {"x": X, "label": [1.0, 2, 3, 4, 5]})
    with pytest.raises(DataError, match="more than 4 different labels") as refusal:
        partition(source, f"file://{tmp_path}/out", shards=1, format=tiny())
    assert "least_squares" in str(refusal.value.hint)
    assert "--target number" in str(refusal.value.hint)


def test_too_many_categories_are_refused_with_the_remedy(tmp_path: Path) -> None:
    columns: Columns = {"x": X, "w": list("pqrst"), "label": AB}
    refused(tmp_path, columns, "column w has more than 4 categories", options={"most_categories": 4})
    source = tmp_path / "rows.tiny"
    partition(source, f"file://{tmp_path}/5", shards=1, format=tiny(most_categories=5))
    partition(source, f"file://{tmp_path}/hash", shards=1, format=tiny(most_categories=4, categories="hash"))


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.tiny", {"x": X, "z": X, "label": AB})
    write_tiny(tmp_path / "b.tiny", {"x": X, "label": AB})
    with pytest.raises(DataError, match=r"a.tiny has a column z, and .*b.tiny has none"):
        partition(tmp_path / "*.tiny", f"file://{tmp_path}/out", shards=1, format=tiny())


def test_a_column_is_of_words_if_it_looks_so_in_any_file(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.tiny", {"x": X, "label": AB})
    write_tiny(tmp_path / "b.tiny", {"x": ["p", "q", "p", "q", "p"], "label": AB})
    manifest = partition(tmp_path / "*.tiny", f"file://{tmp_path}/out", shards=1, validation=0, format=tiny())
    assert manifest.features == 7
    how = manifest.preprocessing
    assert how is not None
    assert how["words"] == ["x"]


def test_a_bad_line_of_a_second_file_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a.tiny", {"x": X, "label": AB})
    (tmp_path / "b.tiny").write_text("x:number label:word\n1 a\n2 b\n3 a\n4 b\nfive b\n")
    for processes in (1, 2):
        with pytest.raises(DataError, match=r"b.tiny, line 6: 'five' is no number"):
            partition(tmp_path / "*.tiny", f"file://{tmp_path}/o", shards=1, format=tiny(), processes=processes)


def test_what_does_not_fit_a_given_preprocessing_is_refused(tmp_path: Path) -> None:
    how = partition(
        write_tiny(tmp_path / "rows.tiny", {"x": X, "z": X, "label": AB}),
        f"file://{tmp_path}/1",
        shards=1,
        format=tiny(),
    ).preprocessing
    source = write_tiny(tmp_path / "other.tiny", {"x": X, "label": AB})
    with pytest.raises(DataError, match="has no column z, which the model needs"):
        partition(source, f"file://{tmp_path}/2", shards=1, format=tiny(), preprocessing=how)
    (tmp_path / "rows.libsvm").write_text("1 1:1\n0 1:2\n")
    with pytest.raises(DataError, match="has features, and the model takes raw columns"):
        partition(tmp_path / "rows.libsvm", f"file://{tmp_path}/2", shards=1, preprocessing=how)
    with pytest.raises(DataError, match="no column of labels beside those"):
        partition(tmp_path / "rows.tiny", f"file://{tmp_path}/2", shards=1, format=tiny(label="x"), preprocessing=how)
