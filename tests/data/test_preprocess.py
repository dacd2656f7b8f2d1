"""Preprocessing: moments as numpy has them, buckets and categories as a plain loop has them, JSON without a loss."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.fitting import Fitting, Moments, training_coders
from lambdaml_core.data.formats import Schema, Table
from lambdaml_core.data.preprocess import Preprocessing, Vocabulary, to_cells
from lambdaml_core.errors import DataError

SCHEMA = Schema(("x", "z"), ("w", "v", "label"), "label")
ORDINARY = st.floats(-1e9, 1e9).map(lambda x: round(x, 6))  # no deviation is so small that numbers leave float32
CELL = st.one_of(st.just(math.nan), ORDINARY, st.sampled_from([0.1, -7.0]))
WORD = st.one_of(st.none(), st.text(max_size=3), st.sampled_from("abc"))


def table(x: Any, z: Any, w: Any, v: Any) -> Table:
    columns: dict[str, NDArray[Any]] = {"x": np.array(x, float), "z": np.array(z, float)}
    columns |= {"w": np.array(w, object), "v": np.array(v, object)}
    return Table(np.arange(len(x)), columns)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.lists(st.tuples(CELL, CELL, WORD, WORD), min_size=1, max_size=12))
    return table(*zip(*rows, strict=True))


def fitted(rows: Table, **options: Any) -> Preprocessing:
    given_options = TableOptions(**options)
    coders = training_coders(["w", "v"], given_options)
    cells = to_cells(rows, ["x", "z"], coders)
    words = {name: coder.words for name, coder in coders.items() if isinstance(coder, Vocabulary)}
    fitting = Fitting(SCHEMA, given_options, [words])
    fitting.add(cells)
    return fitting.finish(len(cells), int(np.count_nonzero(~np.isnan(cells))))


def dense(x: Any) -> Any:
    return x if isinstance(x, np.ndarray) else x.toarray()


@given(st.lists(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=9), min_size=1, max_size=5))
def test_moments_are_those_of_numpy(blocks: list[list[tuple[float, float]]]) -> None:
    moments = Moments(2)
    for block in blocks:
        moments.add(np.array(block))
    for column in range(2):
        cells = np.array([row[column] for block in blocks for row in block])
        cells = cells[~np.isnan(cells)]
        mean, deviation = moments.mean()[column], moments.deviation()[column]
        if len({*cells.tolist()}) < 2:
            assert (mean, deviation) == (cells[0] if cells.size else 0, 1)  # exactly
        else:
            scale = np.abs(cells).max()
            assert mean == pytest.approx(cells.mean(), abs=1e-12 * scale)
            assert deviation == pytest.approx(cells.std(), abs=1e-12 * scale)


@given(tables(), tables(), st.sampled_from(["standard", "none"]))
def test_one_hot_features_are_those_of_a_loop(seen: Table, new: Table, scale: str) -> None:
    how = fitted(seen, scale=scale)
    known = [sorted({word for word in seen.columns[name] if word is not None}) for name in ("w", "v")]
    assert how.names == ("x", "z", *(f"w={word}" for word in known[0]), *(f"v={word}" for word in known[1]))
    assert how.features == len(how.names)
    found = dense(how.transform(new))
    assert (found.shape, found.dtype) == ((len(new.lines), how.features), np.float32)
    for i, row in enumerate(found):
        expected = []
        for j, name in enumerate(("x", "z")):
            cell = new.columns[name][i]
            value = how.means[j] if math.isnan(cell) else cell
            expected.append((value - how.means[j]) / how.deviations[j] if scale == "standard" else value)
        for name, words in zip(("w", "v"), known, strict=True):
            expected += [float(new.columns[name][i] == word) for word in words]
        assert row.tolist() == np.array(expected, np.float32).tolist()


@given(tables(), st.integers(1, 7))
def test_hashed_features_count_the_words_of_a_row(rows: Table, buckets: int) -> None:
    how = fitted(rows, categories="hash", hash_features=buckets)
    assert how.features == len(how.names) == 2 + buckets
    found = dense(how.transform(rows))
    for i, row in enumerate(found):
        expected = [0] * buckets
        for name in ("w", "v"):
            if (word := rows.columns[name][i]) is not None:
                expected[xxhash.xxh3_64_intdigest(f"{name}={word}".encode("utf-8", "surrogatepass")) % buckets] += 1
        assert row[2:].tolist() == expected


@given(tables(), tables(), st.sampled_from(["onehot", "hash"]))
def test_it_comes_back_from_json_and_gives_the_same_bits(seen: Table, new: Table, categories: str) -> None:
    how = fitted(seen, categories=categories, hash_features=5)
    again = Preprocessing.from_json(json.loads(json.dumps(how.to_json())))
    assert again == how
    assert again.to_json() == how.to_json()
    assert dense(again.transform(new)).tobytes() == dense(how.transform(new)).tobytes()


@given(tables(), tables(), st.sampled_from(["onehot", "hash"]))
def test_layouts_and_blocks_change_no_number(seen: Table, new: Table, categories: str) -> None:
    ways = [fitted(seen, categories=categories, hash_features=5, layout=layout) for layout in ("dense", "sparse")]
    one, other = (way.transform(new) for way in ways)
    assert (one.flags.c_contiguous, other.format, other.indices.dtype) == (True, "csr", np.int32)
    assert other.has_sorted_indices
    assert other.toarray().tolist() == one.tolist()
    rows = [Table(np.arange(1), {n: c[i : i + 1] for n, c in new.columns.items()}) for i in new.lines]
    assert np.concatenate([ways[0].transform(row) for row in rows]).tolist() == one.tolist()


def test_layout_is_dense_from_half_of_the_cells_on() -> None:
    x = [1.0, 2.0, 3.0, 4.0]
    assert fitted(table(x, x, list("aaaa"), list("bbbb"))).layout == "dense"  # 4 features, 4 cells a row
    assert fitted(table(x, x, list("abcd"), list("efgh"))).layout == "csr"  # 10 features


def test_a_table_of_numbers_alone_is_scaled() -> None:
    schema, cells = Schema(("x",), (), None), np.array([[1.0], [3.0], [np.nan]])
    fitting = Fitting(schema, TableOptions(categories="hash"), [{}])
    fitting.add(cells)
    how = fitting.finish(3, 2)
    assert (how.features, how.hash_features) == (1, None)
    assert how.transform(Table(np.arange(3), {"x": cells[:, 0]})).tolist() == [[-1], [1], [0]]


def test_numbers_that_are_too_large_are_refused() -> None:
    x, words = [1.0, 2.0], ["a", "b"]
    with pytest.raises(DataError, match="the column x has numbers that are too large"):
        fitted(table([-1e308, 1e308], x, words, words))
    how = fitted(table([1e300, 1e300], x, words, words))  # constant: nothing is divided
    assert dense(how.transform(table([1e300, 1e300], x, words, words)))[:, 0].tolist() == [0, 0]
    for scale, largest in (("standard", 1e39), ("none", 3.5e38)):
        how = fitted(table(x, x, words, words), scale=scale)
        with pytest.raises(DataError, match="the column z has the number"):
            how.transform(table(x, [1, largest], words, words))


def test_nothing_to_learn_from_is_refused() -> None:
    fitting = Fitting(Schema((), ("w", "label"), "label"), TableOptions(), [{"w": []}])
    fitting.add(np.full((3, 1), np.nan))
    with pytest.raises(DataError, match="nothing to learn from"):
        fitting.finish(3, 0)


def test_columns_to_read_are_those_of_training_whatever_they_look_like() -> None:
    how = fitted(table([1], [2], ["a"], ["b"]))
    found = Schema(("w", "label", "z", "more"), ("x", "v"), "label")
    assert how.schema(found, where="it") == Schema(("x", "z"), ("w", "v", "label"), "label")
    assert how.schema(found._replace(label=None), where="it") == Schema(("x", "z"), ("w", "v"), None)
    assert how.schema(found._replace(label="more"), where="it") == Schema(("x", "z", "more"), ("w", "v"), "more")
    assert how.schema(found._replace(label="x"), where="it").label is None
    with pytest.raises(DataError, match="it has no column of labels"):
        how.schema(found._replace(label="x"), where="it", labelled=True)
    with pytest.raises(DataError, match="it has no column x") as refusal:
        how.schema(Schema(("z",), ("w", "label"), "label"), where="it")
    assert refusal.value.hint == "missing are: x, v"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"means": [1.0]}, "as many means"),
        ({"deviations": [1, 2, 3]}, "as many means"),
        ({"deviations": [1.0, 0.0]}, "not above 0"),
        ({"means": [1.0, math.inf]}, "means is"),
        ({"categories": []}, "as many lists of categories"),
        ({"categories": "ab"}, "categories is 'ab'"),
        ({"hash_features": 3}, "as many lists of categories"),
        ({"hash_features": 0, "categories": []}, "hash_features is 0"),
        ({"numbers": None}, "numbers is None"),
        ({"numbers": ["x", "w"]}, "a name comes twice"),
        ({"layout": ["dense"]}, "layout is"),
        ({"strange": 1}, "'strange' is not known"),
    ],
)
def test_what_is_no_preprocessing_is_refused(change: dict[str, Any], says: str) -> None:
    fields = fitted(table([1], [2], ["a"], ["b"])).to_json() | change
    with pytest.raises(DataError, match=f"not the preprocessing of a model: .*{says}"):
        Preprocessing.from_json(fields)
    with pytest.raises(DataError, match="numbers is None"):
        Preprocessing.from_json({})
