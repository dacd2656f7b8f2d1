"""CSV: files against csv.writer and pandas, options, and a name for everything that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lambdaml_core.builtin import CsvOptions
from lambdaml_core.data import text as text_files
from lambdaml_core.data.columns import MISSING
from lambdaml_core.data.delimited import Csv, CsvText, read_cells, split_cells
from lambdaml_core.data.formats import MalformedRow, Schema, is_table
from lambdaml_core.errors import DataError, OptionError

LETTERS = st.sampled_from(list("abXYZ019 ,;\t\"'\n\r_.-eé漢\x0b\u2028#"))
WORDS = st.text(LETTERS, max_size=6).map(str.strip).map(lambda word: None if word in MISSING else word)
NUMBERS = st.one_of(
    st.none(), st.integers(-(10**9), 10**9).map(float), st.floats(allow_nan=False, allow_infinity=False)
)
TABLES = st.integers(1, 4).flatmap(
    lambda words: st.lists(
        st.tuples(NUMBERS, NUMBERS, *[WORDS] * words, st.sampled_from(["yes", "no"])), min_size=1, max_size=12
    )
)


def read(
    path: Path, options: CsvOptions, schema: Schema | None = None
) -> tuple[Schema, list[int], dict[str, list[Any]]]:
    """Schema, lines and columns of a file, through its blocks."""
    reader = Csv(options)
    schema = schema or reader.schema(path)
    lines: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in (*schema.numbers, *schema.words)}
    for block in reader.blocks(path):
        table = reader.parse(block.data, schema)
        lines += (table.lines + block.first).tolist()
        assert set(table.columns) == set(columns)
        for name, column in table.columns.items():
            assert column.dtype == (np.float64 if name in schema.numbers else object)
            assert column.shape == table.lines.shape
            columns[name] += [None if v is None or v != v else v for v in column.tolist()]
    return schema, lines, columns


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=TABLES,
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    block_bytes=st.sampled_from([1, 7, 1 << 20]),
)
def test_what_csv_writes_is_read_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[Any, ...]],
    quoting: Any,
    delimiter: str,
    end: str,
    mark: str,
    block_bytes: int,
) -> None:
    names = ["n0", "n1", *(f"w{i}" for i in range(len(rows[0]) - 3)), "label"]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(names)
    if quoting == csv.QUOTE_MINIMAL:  # csv does not quote a lone carriage return
        rows = [
            tuple(cell.replace("\r", "") or None if isinstance(cell, str) else cell for cell in row) for row in rows
        ]
    starts = []
    for row in rows:
        starts.append(text.getvalue().count("\n"))
        writer.writerow(row)
    path = written(tmp_path / "rows.csv", mark + text.getvalue().removesuffix(end))
    with monkeypatch.context() as patch:
        patch.setattr(text_files, "_BLOCK_BYTES", block_bytes)
        schema, lines, columns = read(
            path, CsvOptions(delimiter=delimiter, numeric=("n0", "n1"), categorical=tuple(names[2:]))
        )
    assert schema == Schema(("n0", "n1"), tuple(names[2:]), "label")
    assert lines == starts
    assert list(zip(*(columns[name] for name in names), strict=True)) == rows


@given(st.lists(st.sampled_from([b"a", b"1", b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b" ", b"\xc3", b"\xa9"])))
@example([b"a,1", b"\n", b"1", b"\n", b"1,2,3", b"\n"])
@example([b"\n", b"a,1", b"\n"])
def test_the_quick_way_takes_nothing_that_the_careful_one_refuses(pieces: list[bytes]) -> None:
    data = CsvText(b"".join(pieces) + b"\n", ("a", "b"), ",", header=False)
    quick, careful = split_cells(data), read_cells(data)
    if quick is not None:
        assert careful.problem is None
        assert quick.lines.tolist() == careful.lines.tolist()
        for cells, expected in zip(quick.columns, careful.columns, strict=True):
            assert [cell.strip() for cell in cells] == [cell.strip() for cell in expected]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NUMBERS, st.sampled_from(["red", "blue", None])), min_size=1, max_size=20))
def test_frames_that_pandas_writes_are_read_back(tmp_path: Path, rows: list[tuple[float | None, str | None]]) -> None:
    frame = pd.DataFrame(rows, columns=["number", "word"]).assign(label=range(len(rows)))
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    schema, _, columns = read(path, CsvOptions(categorical=("word",)))
    assert schema == Schema(("number", "label"), ("word",), "label")
    for name, column in columns.items():
        assert column == [None if cell != cell else cell for cell in frame[name].tolist()]


def test_blocks_are_the_same_whatever_packs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 64)
    text = "a,label\n" + "".join(f'{i},"x\n{i}"\n' for i in range(50))
    plain, packed = written(tmp_path / "rows.csv", text), written(tmp_path / "rows", gzip.compress(text.encode()))
    reader = Csv(CsvOptions())
    blocks = list(reader.blocks(plain))
    assert len(blocks) > 5
    assert b"".join(block.data.text for block in blocks).decode() == text
    assert [block.first for block in blocks] == np.cumsum([0, *(b.data.text.count(b"\n") for b in blocks)])[
        :-1
    ].tolist()
    assert blocks[-1].read == len(text)
    assert [block[:2] for block in reader.blocks(packed)] == [block[:2] for block in blocks]
    assert read(plain, CsvOptions())[2]["label"] == [f"x\n{i}" for i in range(50)]


def test_a_quotation_mark_within_a_cell_is_a_letter(tmp_path: Path) -> None:
    path = written(tmp_path / "pipes.csv", 'size,label\n5" pipe,a\n6" pipe,b\n"7"" pipe",c\n')
    assert read(path, CsvOptions())[2] == {"size": ['5" pipe', '6" pipe', '7" pipe'], "label": ["a", "b", "c"]}


@pytest.mark.parametrize("cell", [*sorted(MISSING), " ", " NA ", '""'])
def test_missing_cells_are_known(tmp_path: Path, cell: str) -> None:
    path = written(tmp_path / "rows.csv", f"n,w,label\n1,a,0\n{cell},{cell},1\n2,b,0\n")
    schema, _, columns = read(path, CsvOptions())
    assert schema == Schema(("n", "label"), ("w",), "label")
    assert columns == {"n": [1, None, 2], "w": ["a", None, "b"], "label": [0, 1, 0]}


def test_spaces_around_cells_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", '\n n , w,label \n\n 1 , a b ,x\n2, "q, r", y \n\r\n')
    schema, lines, columns = read(path, CsvOptions())
    assert columns == {"n": [1, 2], "w": ["a b", "q, r"], "label": ["x", "y"]}
    assert lines == [3, 4]
    assert schema == Schema(("n",), ("w", "label"), "label")


def test_a_column_with_nothing_in_it_is_of_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "a,b,label\n1,,0\n2,NA,1\n")
    assert read(path, CsvOptions())[2]["b"] == [None, None]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CsvOptions(), Schema(("a", "zip"), ("c", "label"), "label")),
        (CsvOptions(label="c"), Schema(("a", "zip"), ("c", "label"), "c")),
        (CsvOptions(label="-1"), Schema(("a", "zip"), ("c", "label"), "label")),
        (CsvOptions(label=-1), Schema(("a", "zip"), ("c", "label"), "label")),
        (CsvOptions(label="0"), Schema(("a", "zip"), ("c", "label"), "a")),
        (CsvOptions(drop=("a", "2")), Schema(("zip",), ("label",), "label")),
        (CsvOptions(categorical=("zip",)), Schema(("a",), ("zip", "c", "label"), "label")),
        (CsvOptions(numeric=("c",)), Schema(("a", "zip", "c"), ("label",), "label")),
        (CsvOptions(header=False, label="-1"), Schema((), ("0", "1", "2", "3"), "3")),
    ],
)
def test_options_say_which_columns_there_are(tmp_path: Path, options: CsvOptions, expected: Schema) -> None:
    path = written(tmp_path / "rows.csv", "a,zip,c,label\n1,01234,x,yes\n2,99999,y,no\n")
    assert Csv(options).schema(path) == expected


def test_a_file_without_names_counts_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "1,red,0\n2,blue,1\n")
    schema, lines, columns = read(path, CsvOptions(header=False, label="-1"))
    assert schema == Schema(("0", "2"), ("1",), "2")
    assert columns == {"0": [1, 2], "1": ["red", "blue"], "2": [0, 1]}
    assert lines == [0, 1]


def test_a_column_without_a_name_is_called_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    pd.DataFrame({"a": [1.5, 2.5], "label": [0, 1]}).to_csv(path)  # the index has no name
    assert Csv(CsvOptions(drop=("0",))).schema(path) == Schema(("a", "label"), (), "label")


@pytest.mark.parametrize("name", ["rows.tsv", "rows.TSV.gz"])
def test_a_tsv_file_has_tabulators(tmp_path: Path, name: str) -> None:
    text = b"a\tb\tlabel\n1,5\tx y\t0\n"
    path = written(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text)
    assert read(path, CsvOptions())[2] == {"a": ["1,5"], "b": ["x y"], "label": [0]}
    assert read(path, CsvOptions(delimiter="tab"))[2] == {"a": ["1,5"], "b": ["x y"], "label": [0]}


def test_spaces_can_be_delimiters(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", 'a b label\n1  0\n2 "x y" 1\n')
    assert read(path, CsvOptions(delimiter=" "))[2] == {"a": [1, 2], "b": [None, "x y"], "label": [0, 1]}


def test_rows_to_predict_on_need_neither_label_nor_what_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "b,a\n1,2\n")
    for options in (CsvOptions(), CsvOptions(label="y", drop=("id",))):
        assert Csv(options).schema(path, labelled=False) == Schema(("b", "a"), (), None)
    assert Csv(CsvOptions(label="a")).schema(path, labelled=False).label == "a"


def test_each_file_has_its_own_order_of_columns(tmp_path: Path) -> None:
    schema = Csv(CsvOptions()).schema(written(tmp_path / "1.csv", "a,w,label\n1,x,0\n"))
    other = written(tmp_path / "2.csv", "more,label,w,a\n9,1,y,2\n")
    assert read(other, CsvOptions(), schema)[2] == {"a": [2], "w": ["y"], "label": [1]}


def test_words_stay_words_where_the_schema_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "a,label\n01,0\n1.0,0\n")
    assert read(path, CsvOptions(), Schema((), ("a",), None))[2] == {"a": ["01", "1.0"]}


def test_the_contract_is_that_of_a_table() -> None:
    assert is_table(Csv(CsvOptions()))
    assert Csv(CsvOptions(scale="none")).options.scale == "none"


GOOD = "a,b,label\n1,x,0\n2,y,1\n"


@pytest.mark.parametrize(
    ("line", "number", "says", "hint"),
    [
        ("many,x,0", 3, "column 'a' has 'many', which is no number", "categorical: ['a']"),
        ("1_000,x,0", 3, "'1_000', which is no number", "categorical"),
        ("-nan,x,0", 3, "'-nan', which is no number", "categorical"),
        ("inf,x,0", 3, "column 'a' has an infinite number", "drop such rows"),
        ("1e999,x,0", 3, "column 'a' has an infinite number", "drop such rows"),
        ("\n5,x,0\n-Infinity,x,0", 5, "column 'a' has an infinite number", "drop such rows"),
        ("1,x", 3, "2 cells, not 3", "quoted"),
        ("1,x,0,", 3, "4 cells, not 3", "quoted"),
        ('1,"x"y,0', 3, "',' expected after '\"'", "quoted"),
        ('1,"x\n\n,0', 3, "a quotation mark is not closed", "close it"),
        ("1,x\ry,0", 3, "a carriage return alone", "tr '"),
        ('1,"\n",0\n"\nbad",x,0', 5, "'bad', which is no number", "categorical"),
        ("1,x,a\nbad,x,1", 3, "column 'label' has 'a'", "categorical"),  # the first line, not the first column
        ("1,x,a\n1,x", 3, "column 'label' has 'a'", "categorical"),
    ],
)
def test_a_malformed_line_is_refused_by_name(tmp_path: Path, line: str, number: int, says: str, hint: str) -> None:
    reader = Csv(CsvOptions())
    schema = reader.schema(written(tmp_path / "good.csv", GOOD))
    blocks = list(reader.blocks(written(tmp_path / "bad.csv", GOOD + line + "\n1,worse\n")))
    for block in blocks[:-1]:
        reader.parse(block.data, schema)
    with pytest.raises(MalformedRow) as caught:
        reader.parse(blocks[-1].data, schema)
    assert blocks[-1].first + caught.value.line == number
    assert says in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_byte_that_is_not_utf8_is_refused_by_its_line(tmp_path: Path) -> None:
    reader = Csv(CsvOptions())
    (block,) = reader.blocks(written(tmp_path / "rows.csv", GOOD.encode() + b"3,caf\xe9,1\n"))
    with pytest.raises(MalformedRow, match="0xe9 is not UTF-8") as caught:
        reader.parse(block.data, Schema(("a", "label"), ("b",), "label"))
    assert caught.value.line == 3


@pytest.mark.parametrize("encoding", ["utf-16", "latin1"])
def test_a_file_that_does_not_begin_in_utf8_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, encoding: str
) -> None:
    path = written(tmp_path / "rows.csv", "größe,label\n1,2\n".encode(encoding))
    with pytest.raises(DataError, match=r"line 1: the byte 0x.. is not UTF-8") as caught:
        Csv(CsvOptions()).schema(path)
    assert f"iconv -f {encoding} -t utf-8" in str(caught.value.hint)


def test_a_later_file_without_a_column_is_refused(tmp_path: Path) -> None:
    reader = Csv(CsvOptions())
    (block,) = reader.blocks(written(tmp_path / "rows.csv", "a,label\n1,0\n"))
    with pytest.raises(MalformedRow, match="there is no column 'b'"):
        reader.parse(block.data, Schema(("a", "b"), (), None))


@pytest.mark.parametrize(
    ("text", "options", "says", "hint"),
    [
        ("", CsvOptions(), "is empty", "right file"),
        ("\n\n", CsvOptions(), "has only blank lines", "right file"),
        ("a,label\r1,2\r", CsvOptions(), "line 1: a carriage return alone ends no line", "tr '"),
        ('a,"label\n1,2\n', CsvOptions(), "line 1: a quotation mark is not closed", "close it"),
        ("a;label\n1;2\n", CsvOptions(), "no column called label or target", "there are 'a;label'"),
        ("a,b\n1,2\n", CsvOptions(), "no column called label or target", "-1 is the last"),
        ("label,target,a\n1,2,3\n", CsvOptions(), "both column called label or target", "option label"),
        ("a,label\n1,2\n", CsvOptions(label="lable"), "no column 'lable', named by label", "did you mean label?"),
        ("a,label\n1,2\n", CsvOptions(label="2"), "no column '2'", "known: a, label"),
        ("a,label\n1,2\n", CsvOptions(drop=("b",)), "no column 'b', named by drop", "known"),
        ("a,label\n1,2\n", CsvOptions(numeric=("-3",)), "no column '-3', named by numeric", "known"),
        ("a,label\n1,2\n", CsvOptions(categorical=("c",)), "no column 'c', named by categorical", "known"),
        ("a,a,label\n1,2,3\n", CsvOptions(), "two columns called 'a'", "name of its own"),
        ("a,1,label,\n1,2,3,4\n", CsvOptions(drop=("0",)), "", ""),
        ("label\n1\n", CsvOptions(), "no columns to learn from", "delimiter"),
        ("a;b;label\n1;2;3\n", CsvOptions(label="0"), "no columns to learn from", "delimiter"),
        ("a,label\n1,2\n", CsvOptions(drop=("a",)), "no columns to learn from", "drop"),
    ],
)
def test_what_does_not_fit_the_file_is_refused_with_its_path(
    tmp_path: Path, text: str, options: CsvOptions, says: str, hint: str
) -> None:
    path = written(tmp_path / "rows.csv", text)
    if not says:  # the last column is called 3
        assert Csv(options).schema(path).numbers == ("1", "label", "3")
        return
    with pytest.raises(DataError, match=str(path)) as caught:
        Csv(options).schema(path)
    assert says in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "options",
    [
        CsvOptions(drop=("label",)),
        CsvOptions(drop=("a",), categorical=("0",)),
        CsvOptions(numeric=("a",), categorical=("a",)),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: CsvOptions) -> None:
    path = written(tmp_path / "rows.csv", "a,b,label\n1,2,3\n")
    with pytest.raises(OptionError, match="cannot be two of"):
        Csv(options).schema(path)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "tabs"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(OptionError, match="delimiter"):
        Csv(CsvOptions(delimiter=delimiter))


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_LONGEST_RECORD_BYTES", 1 << 20)
    packed = gzip.compress(GOOD.encode() * 99)
    files = {
        "cut.gz": packed[:-20],
        "utf16.csv": GOOD.encode("utf-16"),
        "open.csv": b"a,label\n" + b'"' + b"1,2\n" * (1 << 20),
        "quote.csv": b'"a"b,label\n1,2\n',
    }
    for name, data in files.items():
        written(tmp_path / name, data)
    for name in [*files, ".", "missing"]:
        with pytest.raises(DataError, match=str(tmp_path / name)):
            list(Csv(CsvOptions()).blocks(tmp_path / name))


def test_numbers_are_those_that_python_reads(tmp_path: Path) -> None:
    texts = ["0.1", "-0", ".5", "5.", "+1.25", "1e-320", "9007199254740993", "123456789.123456789"]
    path = written(tmp_path / "rows.csv", "a,label\n" + "".join(f"{text},0\n" for text in texts))
    found = read(path, CsvOptions())[2]["a"]
    assert [value.hex() for value in found] == [float(text).hex() for text in texts]
    assert math.copysign(1, found[1]) == -1
