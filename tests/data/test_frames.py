"""pandas frames: every kind of column that holds numbers or words, and those that are refused."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data import columns as column_rules
from lambdaml_core.data.formats import MalformedRow, Schema, is_table
from lambdaml_core.data.frames import Frames, frame_schema, frame_table
from lambdaml_core.errors import DataError, OptionError

ANY = TableOptions()


def cells(frame: pd.DataFrame, options: TableOptions = ANY) -> dict[str, list[Any]]:
    """The columns of a frame, None where something is missing."""
    schema = frame_schema(frame, options, labelled=False)
    table = frame_table(frame, schema)
    assert table.lines.tolist() == list(range(len(frame)))
    for name, column in table.columns.items():
        assert column.dtype == (np.float64 if name in schema.numbers else object)
    return {
        name: [None if cell is None or cell != cell else cell for cell in column.tolist()]
        for name, column in table.columns.items()
    }


@pytest.mark.parametrize(
    "column",
    [
        np.array([1, 0, 3], np.int8),
        np.array([1, 0, 3], ">u8"),
        np.array([1, 0, 3], np.float16),
        pd.array([1, 0, 3], "Int64"),
        pd.array([1, 0, 3], "Float32"),
        pd.array([1, 0, 3], "int64[pyarrow]"),
        pd.arrays.SparseArray([1.0, 0.0, 3.0]),
        np.array([1, 0.0, Decimal(3)], object),
        np.array([True, np.bool_(False), np.int16(3)], object),
    ],
)
def test_columns_of_numbers_are_numbers(column: Any) -> None:
    assert cells(pd.DataFrame({"a": column})) == {"a": [1.0, 0.0, 3.0]}


@pytest.mark.parametrize(
    "column",
    [
        np.array([1, np.nan]),
        pd.array([1, None], "Int64"),
        pd.array([True, None], "boolean"),
        pd.array([1, None], "double[pyarrow]"),
        pd.arrays.SparseArray([1.0, np.nan]),
        np.array([1, None], object),
        np.array([1, pd.NA], object),
    ],
)
def test_missing_numbers_are_nan(column: Any) -> None:
    assert cells(pd.DataFrame({"a": column})) == {"a": [1.0, None]}


@pytest.mark.parametrize("kind", [object, "string", "category", "string[pyarrow]", "str"])
def test_columns_of_words_are_words(kind: Any) -> None:
    frame = pd.DataFrame({"a": pd.Series(["x", None, " y ", "", "NA"], dtype=kind)})
    assert cells(frame) == {"a": ["x", None, "y", None, None]}


@pytest.mark.parametrize("column", [[1, 2, 10], [1.0, 2.0, 10.0], pd.array([1, 2, 10], "Int64"), ["1", "2", "10"]])
def test_categories_that_look_like_numbers_are_spelt_alike(column: Any) -> None:
    assert cells(pd.DataFrame({"a": column}), TableOptions(categorical=("a",))) == {"a": ["1", "2", "10"]}
    assert cells(pd.DataFrame({"a": pd.Categorical(column)})) == {"a": ["1", "2", "10"]}


def test_words_can_be_taken_as_numbers() -> None:
    frame = pd.DataFrame({"a": [" 1", None, "2.5"], "b": [True, "3", None]})
    assert cells(frame, TableOptions(numeric=("a", "b"))) == {"a": [1.0, None, 2.5], "b": [1.0, 3.0, None]}


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**53), 2**53),
            st.none() | st.floats(allow_infinity=False),
            st.none() | st.text("abc", min_size=1),
        ),
        min_size=1,
    )
)
def test_a_frame_says_what_it_was_made_of(rows: list[tuple[int, float | None, str | None]]) -> None:
    frame = pd.DataFrame(rows, columns=["i", "f", "w"]).astype({"f": float, "w": object})
    found = cells(frame, TableOptions(categorical=("w",)))
    expected = [[None if cell != cell else cell for cell in column] for column in zip(*rows, strict=True)]
    assert [found["i"], found["f"], found["w"]] == expected


def test_the_label_is_one_of_the_columns() -> None:
    frame = pd.DataFrame({"a": [1, 2], "target": ["yes", "no"]})
    assert frame_schema(frame, ANY) == Schema(("a",), ("target",), "target")
    assert frame_schema(frame, TableOptions(label="-2")) == Schema(("a",), ("target",), "a")
    with pytest.raises(DataError, match="the frame has no column called label or target"):
        frame_schema(frame[["a"]], ANY)
    assert frame_schema(frame[["a"]], ANY, labelled=False) == Schema(("a",), (), None)


def test_columns_are_known_by_the_text_of_their_names() -> None:
    frame = pd.DataFrame(np.arange(6).reshape(2, 3), index=[7, 7])
    schema = frame_schema(frame, TableOptions(label="2", drop=("0",)))
    assert schema == Schema(("1", "2"), (), "2")
    assert frame_table(frame, schema).columns["1"].tolist() == [1, 4]


def test_columns_come_in_any_order_and_number() -> None:
    schema = frame_schema(pd.DataFrame({"a": [1], "w": ["x"]}), ANY, labelled=False)
    table = frame_table(pd.DataFrame({"more": [[]], "w": ["y"], "a": [2]}), schema)
    assert (table.columns["a"].tolist(), table.columns["w"].tolist()) == ([2.0], ["y"])


def test_blocks_are_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_rules, "_BLOCK_CELLS", 64)
    frame = pd.DataFrame({"a": np.arange(10.0), "label": np.arange(10)})
    assert is_table(Frames(ANY))
    reader = Frames(ANY)
    schema = reader.schema(frame)
    blocks = list(reader.blocks(frame))
    assert [(block.first, block.read) for block in blocks] == [(0, 4), (4, 8), (8, 10)]
    parts = [reader.parse(block.data, schema).columns["a"] for block in blocks]
    assert np.concatenate(parts).tolist() == frame["a"].tolist()


@pytest.mark.parametrize(
    ("column", "holds"),
    [
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "Timestamp"),
        (pd.to_timedelta([1, 2], "s"), "Timedelta"),
        ([1j, 2j], "complex"),
        ([[1], [2]], "list"),
        (["x", 1], "int and str"),
        ([datetime.date(2020, 1, 1), "x"], "date and str"),
        (pd.period_range("2020-01-01", periods=2), "Period"),
    ],
)
def test_other_columns_are_refused_unless_dropped(column: Any, holds: str) -> None:
    frame = pd.DataFrame({"a": column, "b": [1, 2]})
    with pytest.raises(DataError, match=f"column 'a' of the frame holds {holds}, neither") as caught:
        frame_schema(frame, ANY, labelled=False)
    assert "drop" in str(caught.value.hint)
    assert frame_schema(frame, TableOptions(drop=("a",)), labelled=False) == Schema(("b",), (), None)


def test_dates_can_be_categories() -> None:
    frame = pd.DataFrame({"a": [datetime.date(2020, 1, 1), None]})
    assert cells(frame, TableOptions(categorical=("a",))) == {"a": ["2020-01-01", None]}


@pytest.mark.parametrize(
    ("column", "row", "says"),
    [
        ([1.0, np.inf], 1, "infinite"),
        ([1, 10**400], 1, "infinite"),
        (["1", "x"], 1, "'x', which is no number"),
        ([[], 1], 0, "no number"),
        (pd.Series([datetime.datetime(2020, 1, 1), None]), 0, "no number"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(column: Any, row: int, says: str) -> None:
    with pytest.raises(MalformedRow, match="column 'a' has") as caught:
        frame_table(pd.DataFrame({"a": column}), Schema(("a",), (), None))
    assert caught.value.line == row
    assert says in caught.value.message


def test_cells_that_are_no_words_are_refused() -> None:
    with pytest.raises(MalformedRow, match="no words"):
        frame_table(pd.DataFrame({"a": [[1], [2]]}), Schema((), ("a",), None))


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(DataError, match="is no pandas frame"):
        Frames(ANY).schema("rows.csv")
    twice = pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="two columns called 'a'"):
        frame_schema(twice, ANY, labelled=False)
    with pytest.raises(OptionError, match="'a' cannot be two of"):
        frame_schema(pd.DataFrame({"a": [1], "b": [1]}), TableOptions(label="a", drop=("a",)))
