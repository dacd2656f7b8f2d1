"""Parquet: files of pandas and pyarrow read back, each type of column, and what is refused."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import MalformedRow, Schema
from lambdaml_core.data.frames import frame_schema, frame_table
from lambdaml_core.data.parquet import Parquet
from lambdaml_core.errors import DataError, NotSupported

ANY = TableOptions()


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, options: TableOptions = ANY) -> dict[str, list[Any]]:
    """The columns of a file through its blocks, None where something is missing."""
    reader = Parquet(options)
    schema = reader.schema(path, labelled=False)
    columns: dict[str, list[Any]] = {name: [] for name in (*schema.numbers, *schema.words)}
    rows = 0
    for block in reader.blocks(path):
        table = reader.parse(block.data, schema)
        assert block.first == rows
        assert table.lines.tolist() == list(range(len(table.lines)))
        rows += len(table.lines)
        for name, column in table.columns.items():
            assert column.dtype == (np.float64 if name in schema.numbers else object)
            columns[name] += [None if cell is None or cell != cell else cell for cell in column.tolist()]
    return columns


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**53), 2**53),
            st.none() | st.floats(allow_infinity=False),
            st.none() | st.text("abc", min_size=1, max_size=2),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    ),
    group=st.integers(1, 9),
    dictionaries=st.booleans(),
)
def test_files_of_pyarrow_are_read_back(
    tmp_path: Path, rows: list[tuple[Any, ...]], group: int, dictionaries: bool
) -> None:
    i, f, w, b = (list(column) for column in zip(*rows, strict=True))
    words = pa.array(w, pa.string())
    columns = {
        "i": pa.array(i, pa.int64()),
        "f": pa.array(f, pa.float64()),
        "w": words.dictionary_encode() if dictionaries else words,
        "b": pa.array(b),
    }
    path = write(tmp_path / "rows.parquet", columns, row_group_size=group)
    expected = {"i": i, "f": [None if cell != cell else cell for cell in f], "w": w, "b": b}
    assert read(path) == expected


def test_a_frame_and_its_file_are_the_same_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "n": pd.array([1, None, 3], "Int64"),
            "w": ["x", None, " y "],
            "c": pd.Categorical(["u", "v", None]),
            "label": [0.0, 1.0, 1.0],
        }
    )
    path = tmp_path / "rows.parquet"
    frame.to_parquet(path)
    for options in (ANY, TableOptions(categorical=("i", "label"), drop=("w",))):
        reader = Parquet(options)
        schema = reader.schema(path)
        assert schema == frame_schema(frame, options)
        (block,) = reader.blocks(path)
        table, expected = reader.parse(block.data, schema), frame_table(frame, schema)
        for name, column in expected.columns.items():
            np.testing.assert_array_equal(table.columns[name], column)


NUMBERS = [
    *(pa.array([1, None, 3], kind) for kind in (pa.int8(), pa.uint64(), pa.float16(), pa.float32())),
    pa.array([Decimal(1), None, Decimal(3)], pa.decimal128(9, 2)),
]
WORDS = [pa.array(["x", None, " y "], kind) for kind in (pa.string(), pa.large_string())]


@pytest.mark.parametrize("column", NUMBERS, ids=lambda column: str(column.type))
def test_columns_of_numbers_are_numbers(tmp_path: Path, column: Any) -> None:
    assert read(write(tmp_path / "rows.parquet", {"a": column})) == {"a": [1, None, 3]}


@pytest.mark.parametrize("column", NUMBERS, ids=lambda column: str(column.type))
def test_numbers_can_be_categories(tmp_path: Path, column: Any) -> None:
    expected = ["1.00", None, "3.00"] if pa.types.is_decimal(column.type) else ["1", None, "3"]
    path = write(tmp_path / "rows.parquet", {"a": column})
    assert read(path, TableOptions(categorical=("a",))) == {"a": expected}


@pytest.mark.parametrize("column", WORDS, ids=lambda column: str(column.type))
def test_columns_of_words_are_words(tmp_path: Path, column: Any) -> None:
    assert read(write(tmp_path / "rows.parquet", {"a": column})) == {"a": ["x", None, "y"]}


def test_a_column_of_nothing_is_of_numbers(tmp_path: Path) -> None:
    assert read(write(tmp_path / "rows.parquet", {"a": pa.nulls(2)})) == {"a": [None, None]}


def test_words_can_be_taken_as_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.parquet", {"a": ["1", " 2.5 ", "NA"], "b": pa.array([1, 2, None]).dictionary_encode()}
    )
    assert read(path, TableOptions(numeric=("a", "b"))) == {"a": [1, 2.5, None], "b": [1, 2, None]}


def test_a_dictionary_larger_than_its_indices_count(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(127)]  # -1 has to be told apart from the last of them
    column = pa.DictionaryArray.from_arrays(pa.array([126, None, 0], pa.int8()), pa.array(words))
    assert read(write(tmp_path / "rows.parquet", {"a": column})) == {"a": ["w126", None, "w0"]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp("us")),
        pa.array([datetime.date(2020, 1, 1)]),
        pa.array([[1, 2]]),
        pa.array([{"x": 1}]),
        pa.array([b"x"]),
    ],
    ids=lambda column: str(column.type),
)
def test_other_columns_are_refused_unless_dropped(tmp_path: Path, column: Any) -> None:
    path = write(tmp_path / "rows.parquet", {"a": column, "b": [1]})
    with pytest.raises(DataError, match=f"{path}: column 'a' holds") as caught:
        Parquet(TableOptions(label="b")).schema(path)
    assert "drop" in str(caught.value.hint)
    assert read(path, TableOptions(drop=("a",))) == {"b": [1]}


def test_rows_to_predict_on_may_have_columns_that_the_model_does_not_know(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"day": [datetime.date(2020, 1, 1)], "list": pa.array([[1, 2]]), "b": [1]})
    reader = Parquet(ANY)
    assert reader.schema(path, labelled=False) == Schema(("b",), ("day", "list"), None)
    (block,) = reader.blocks(path)
    assert reader.parse(block.data, Schema(("b",), (), None)).columns["b"].tolist() == [1]
    assert reader.parse(block.data, Schema((), ("day",), None)).columns["day"].tolist() == ["2020-01-01"]


def test_dates_can_be_categories(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"a": [datetime.date(2020, 1, 1), None]})
    assert read(path, TableOptions(categorical=("a",))) == {"a": ["2020-01-01", None]}


def test_the_label_is_one_of_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"x.y": [1], "target": ["yes"]})
    assert Parquet(ANY).schema(path) == Schema(("x.y",), ("target",), "target")
    assert read(path) == {"x.y": [1], "target": ["yes"]}
    with pytest.raises(DataError, match=f"{path} has no column 'labl'"):
        Parquet(TableOptions(label="labl")).schema(path)


@pytest.mark.parametrize(
    ("column", "row", "says"), [([1.0, float("inf")], 1, "infinite"), (["1", None, "x"], 2, "'x', which is no number")]
)
def test_what_is_no_number_is_refused_with_its_row(tmp_path: Path, column: Any, row: int, says: str) -> None:
    reader = Parquet(TableOptions(numeric=("a",)))
    (block,) = reader.blocks(write(tmp_path / "rows.parquet", {"a": column}))
    with pytest.raises(MalformedRow, match="column 'a' has") as caught:
        reader.parse(block.data, Schema(("a",), (), None))
    assert caught.value.line == row
    assert says in caught.value.message


@pytest.mark.parametrize("options", [ANY, TableOptions(numeric=("a",))], ids=["words", "numbers"])
def test_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path, options: TableOptions) -> None:
    cells = pa.array([b"1", b"2", b"caf\xe9", b"1"]).view(pa.string())
    reader = Parquet(options)
    path = write(tmp_path / "rows.parquet", {"a": cells, "b": [1, 2, 3, 4]})
    (block,) = reader.blocks(path)
    with pytest.raises(MalformedRow, match="column 'a' has text that is not UTF-8") as caught:
        reader.parse(block.data, reader.schema(path, labelled=False))
    assert caught.value.line == 2


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", {"a": list(range(5000)), "label": ["x"] * 5000}, use_dictionary=False)
    data = good.read_bytes()
    files = {"cut": data[:-20], "text": b"a,b\n1,2\n", "empty": b"", "pages": b"PAR1" + bytes(2000) + data[2004:]}
    for name, damaged in files.items():
        (tmp_path / name).write_bytes(damaged)
    for name in (*files, "missing", "."):
        with pytest.raises(DataError, match=str(tmp_path / name)):
            list(Parquet(ANY).blocks(tmp_path / name))


def test_without_pyarrow_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(NotSupported, match="needs pyarrow") as caught:
        Parquet(ANY).schema(tmp_path / "rows.parquet")
    assert caught.value.hint == "pip install 'pyarrow>=18'"
