"""Laws of formats of tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lambdaml_core.data.formats import Block, DataFormat, Schema, Table, TableFormat
from lambdaml_core.data.raw import frame_rows
from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import DataError, OptionError
from lambdaml_core.testing.data_format_laws.files import FileLaws, Files, Parsed, refused_line

Columns = Mapping[str, Sequence[Any]]
_NUMBERS = st.one_of(
    st.none(), st.integers(-(2**40), 2**40).map(float), st.floats(allow_nan=False, allow_infinity=False)
)
_LETTERS = st.text(st.sampled_from(list("abXYZ019 ,;\t\"'\n\r|_.-=é漢🙂\u2028#")), max_size=6)
_WORDS = st.one_of(st.none(), _LETTERS.map(lambda text: f"w{text}".strip()))
_ROWS = st.lists(st.tuples(_NUMBERS, _NUMBERS, _WORDS, st.sampled_from(["no", "yes"])), min_size=1, max_size=8)


@dataclass(frozen=True, kw_only=True)
class TableCase:
    """A format of tables, and how its files are written.

    Attributes:
        reader: built with its default options, or with such as hold for any file.
        write: ``write(path, columns)``: of each name, in order, the cells: floats or words, None for one that is
            missing. A word may have any characters, and is written within quotes where the format needs it.
        suffix: what names of files end with.
        first_line: number of the line of the first row; lines count from 0.
        bad_lines: lines that are malformed in a file of the four columns x, z (numbers), word and label (words), each
            for its own reason, if files have lines.
    """

    reader: TableFormat
    write: Callable[[Path, Columns], object]
    suffix: str = ""
    first_line: int = 0
    bad_lines: tuple[bytes, ...] = ()


class TableFiles(Files):
    """Files of a case, with two columns of numbers, one of words and one of labels."""

    def __init__(self, case: TableCase) -> None:
        self.case, self.reader, self.write = case, case.reader, case.write
        self.suffix, self.first_line, self.bad_lines = case.suffix, case.first_line, case.bad_lines

    def write_some(self, path: Path, rows: int) -> list[Any]:
        columns = _some(rows)
        self.write(path, columns)
        return list(zip(*columns.values(), strict=True))

    def schema(self, path: Path) -> Schema:
        return self.case.reader.schema(path)

    def parse(self, reader: DataFormat, block: Block, schema: Schema | None) -> Parsed:
        assert schema is not None
        table = self.table(reader, block, schema)
        names = [name for name in ("x", "z", "word", "label") if name in table.columns]
        columns = [_cells(table.columns[name]) for name in names]
        return Parsed((block.first + table.lines).tolist(), list(zip(*columns, strict=True)))

    def table(self, reader: DataFormat, block: Block, schema: Schema) -> Table:
        """A block, checked against the contract."""
        table = cast(TableFormat, reader).parse(block.data, schema)
        assert table.lines.dtype == np.int64, f"lines are of {table.lines.dtype}"
        assert (np.diff(table.lines) > 0).all(), "lines do not increase"
        assert set(table.columns) == {*schema.numbers, *schema.words}, "other columns than those of the schema"
        for name, column in table.columns.items():
            assert column.shape == table.lines.shape, f"the column {name} has {column.shape} cells"
            assert column.dtype == (np.float64 if name in schema.numbers else object), f"{name} is of {column.dtype}"
            if name in schema.words:
                assert all(cell is None or isinstance(cell, str) for cell in column), f"{name} has other than words"
        return table

    def expected(self, manifest: Manifest, rows: int) -> Any:
        columns = _some(rows)
        assert manifest.preprocessing is not None
        x = frame_rows(columns, manifest.preprocessing)
        dense = x if isinstance(x, np.ndarray) else x.toarray()
        return np.column_stack([dense, [manifest.labels.index(label) for label in columns["label"]]])

    def rebuilt(self, **options: Any) -> TableFormat:
        """The format with other options."""
        factory = cast(Callable[[Any], TableFormat], type(self.case.reader))
        return factory(replace(self.case.reader.options, **options))


class TableLaws(FileLaws):
    """Laws of tables; the suite gives the fixture ``case``."""

    @pytest.fixture
    def case(self) -> TableCase:
        """The case."""
        raise NotImplementedError("override the fixture `case`")

    @pytest.fixture
    def files(self, case: TableCase) -> TableFiles:
        """Its files."""
        return TableFiles(case)

    def test_what_is_written_is_what_is_read(self, files: TableFiles, path: Path) -> None:
        """Numbers come back to the last digit, words letter by letter: in any alphabet, with delimiters, quotation
        marks and newlines in them; spaces around a word are left out. What is missing is NaN, or None among words.

        Fix encodings (UTF-8), quoting, and what stands for a cell with nothing in it.
        """

        @settings(deadline=None)
        @given(rows=_ROWS)
        @example(rows=[(1 / 3, None, 'w\u00e9, "x"\n,', "no"), (None, -1e-9, None, "yes")])
        def comes_back(rows: list[tuple[Any, ...]]) -> None:
            columns = dict(zip(("x", "z", "word", "label"), map(list, zip(*rows, strict=True)), strict=True))
            files.write(path, columns)
            schema = Schema(("x", "z"), ("word", "label"), "label")
            found: dict[str, list[Any]] = {name: [] for name in columns}
            for block in files.reader.blocks(path):
                for name, column in files.table(files.reader, block, schema).columns.items():
                    found[name] += _cells(column)
            assert found == columns

        comes_back()

    def test_columns_are_told_from_the_file(self, files: TableFiles, path: Path) -> None:
        """``schema`` has each column once, in order, as numbers or as words; the label is ``label`` or ``target``.

        Fix how kinds are told: a column is of numbers if its cells are, and a missing one says nothing.
        """
        files.write(path, {**_some(9), "gaps": [None, 1.0, None, 2.5, *[None] * 5]})
        assert files.case.reader.schema(path) == Schema(("x", "z", "gaps"), ("word", "label"), "label")
        target = {"target" if name == "label" else name: cells for name, cells in _some(9).items()}
        files.write(path, target)
        assert files.case.reader.schema(path) == Schema(("x", "z"), ("word", "target"), "target")

    def test_options_say_what_becomes_of_columns(self, files: TableFiles, path: Path) -> None:
        """``label``, by name or by number, ``drop``, ``categorical`` and ``numeric`` are followed; what contradicts
        itself raises ``OptionError``, and the name of a column that is not there ``DataError``.

        Fix it by ``lambdaml_core.data.columns.schema_of``, which does all of it.
        """
        columns = {**_some(9), "digits": [str(i % 3) for i in range(9)]}
        files.write(path, columns)

        def schema(**options: Any) -> Schema:
            return files.rebuilt(**options).schema(path)

        assert schema(label="word").label == "word"
        assert schema(label=-2).label == "label"
        assert schema(label="0").label == "x"
        dropped = schema(drop=("x", "word"))
        assert {"x", "word"}.isdisjoint((*dropped.numbers, *dropped.words))
        assert "z" in schema(categorical=("z",)).words
        assert "digits" in schema(numeric=("digits",)).numbers
        for contradiction in ({"drop": ("label",)}, {"numeric": ("x",), "categorical": ("x",)}):
            with pytest.raises(OptionError):
                schema(**contradiction)
        for option in ("drop", "numeric", "categorical"):
            with pytest.raises(DataError):
                schema(**{option: ("nowhere",)})
        with pytest.raises(DataError):
            schema(label="nowhere")

    def test_rows_to_predict_on_may_lack_labels(self, files: TableFiles, path: Path) -> None:
        """Without a column of labels ``schema`` raises ``DataError``, unless it is told ``labelled=False``.

        Fix ``schema``: it passes ``labelled`` on to ``schema_of``.
        """
        columns = {name: cells for name, cells in _some(9).items() if name != "label"}
        files.write(path, columns)
        assert files.case.reader.schema(path, labelled=False) == Schema(("x", "z"), ("word",), None)
        with pytest.raises(DataError):
            files.case.reader.schema(path)

    def test_columns_are_found_by_name(self, files: TableFiles, path: Path) -> None:
        """A file may have its columns in another order than the schema, and more of them; one that lacks a column
        raises ``MalformedRow``.

        The schema is of the first file, or of the training data. Fix ``parse``.
        """
        columns = _some(9)
        files.write(path, columns)
        schema = files.case.reader.schema(path)
        files.read(path)
        files.write(path, {"more": ["w"] * 9, **dict(reversed(columns.items()))})
        for block in files.reader.blocks(path):
            table = files.table(files.reader, block, schema)
            for name in columns:
                start = block.first - min(block.first, files.first_line)
                right = columns[name][start : start + len(table.lines)]
                assert _cells(table.columns[name]) == list(right), f"the column {name}"
        files.write(path, {name: cells for name, cells in columns.items() if name != "z"})
        refused_line(files, path, schema)

    def test_what_is_no_number_is_refused_by_its_line(self, files: TableFiles, path: Path) -> None:
        """A word or an infinite number in a column of numbers raises ``MalformedRow`` with the line of its row.

        Fix ``parse``: by ``lambdaml_core.data.columns.to_table``.
        """
        for row in (0, 3):
            numbers = [1.0, 2.0, 3.0, 4.0, 5.0]
            for cells in (list(map(str, numbers)), numbers):
                bad: list[Any] = list(cells)
                bad[row] = "many" if isinstance(cells[0], str) else math.inf
                files.write(path, {"z": bad, "label": ["no"] * 5})
                line = refused_line(files, path, Schema(("z",), ("label",), "label"))
                assert line == files.first_line + row, f"{bad[row]} is in row {row}, and line {line} is refused"


def _some(rows: int) -> dict[str, list[Any]]:
    numbers = np.random.default_rng(5).integers(-999, 999, (2, rows)) / 8
    long = "a word that is long enough to make files large"
    return {
        "x": numbers[0].tolist(),
        "z": [None if i % 5 == 3 else number for i, number in enumerate(numbers[1].tolist())],
        "word": [None if i % 7 == 5 else f"{long} {i % 3}" for i in range(rows)],
        "label": ["no" if i * 3 % 2 else "yes" for i in range(rows)],
    }


def _cells(column: Any) -> list[Any]:
    """Cells with None for what is missing."""
    return [None if cell is None or cell != cell else cell for cell in column.tolist()]
