"""CSV, plain or gzip, in UTF-8: cells between delimiters, within quotes where they have delimiters or newlines.

What a cell holds, and when it is missing, is said in ``columns.py``.
"""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import CsvOptions
from lambdaml_core.data.columns import are_numbers, number_column, schema_of, to_table, word_column
from lambdaml_core.data.formats import Block, MalformedRow, Schema, Table
from lambdaml_core.data.text import text_blocks
from lambdaml_core.errors import DataError, OptionError

_TSV = (".tsv", ".tsv.gz")


class CsvText(NamedTuple):
    """A block of a file.

    Attributes:
        text: whole records.
        names: the columns of the file, in order.
        header: whether the first record has the names.
    """

    text: bytes
    names: tuple[str, ...]
    delimiter: str
    header: bool


class Csv:
    """Reads CSV; implements :class:`lambdaml_core.data.formats.TableFormat`.

    A column is of numbers if all its cells in the first MiB are, and the options do not say otherwise. A column
    without a name is called by its number, from 0. Files called ``.tsv`` have tabulators unless another delimiter is
    given.
    """

    def __init__(self, options: CsvOptions) -> None:
        self.options = options
        self._delimiter = "\t" if options.delimiter == "tab" else options.delimiter
        if len(self._delimiter) != 1 or self._delimiter in '"\r\n':
            raise OptionError(
                f"option delimiter cannot be {options.delimiter!r}", hint="give one character, or tab for a tabulator"
            )

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        """As the contract says."""
        first = next(self.blocks(path), None)
        if first is None:
            raise DataError(f"{path} is empty", hint="check that it is the right file")
        names, cells = first.data.names, _cells(first.data).columns
        return schema_of(
            names,
            self.options,
            lambda name: are_numbers(cells[names.index(name)]),
            labelled=labelled,
            where=str(path),
        )

    def blocks(self, path: Path) -> Iterator[Block]:
        """As the contract says."""
        names: tuple[str, ...] | None = None
        tabs = self._delimiter == "," and path.name.lower().endswith(_TSV)
        delimiter = "\t" if tabs else self._delimiter
        for block in text_blocks(path, quoted=True):
            text, header = block.data, False
            if names is None:
                text, header = text.removeprefix(BOM_UTF8), self.options.header
                names = _names(path, text, delimiter, header)
            yield Block(block.first, CsvText(text, names, delimiter, header), block.read)

    def parse(self, data: CsvText, schema: Schema) -> Table:
        """As the contract says."""
        cells = _cells(data)
        by_name = dict(zip(data.names, cells.columns, strict=True))
        table = to_table(
            schema,
            cells.lines,
            by_name,
            numbers=lambda name: number_column(name, by_name[name], cells.lines),
            words=lambda name: word_column(by_name[name]),
        )
        if cells.problem is not None:  # comes after all lines that were fine
            raise cells.problem
        return table


def _names(path: Path, text: bytes, delimiter: str, header: bool) -> tuple[str, ...]:
    """The names in the first record, or as many numbers as it has cells."""
    decoded, problem = _decode(text)
    try:
        first = next(filter(None, _records(decoded, delimiter)), None)
    except csv.Error as e:
        first, problem = None, _malformed(e, 0)
    if first is None:
        if problem is None:
            raise DataError(f"{path} has only blank lines", hint="check that it is the right file")
        raise DataError(f"{path}, line {problem.line + 1}: {problem.message}", hint=problem.hint) from problem
    words = [cell.strip() if header else "" for cell in first]
    return tuple(word or str(i) for i, word in enumerate(words))


def _records(text: str, delimiter: str) -> Any:
    skip = delimiter != " "  # else two delimiters in a row would be one
    return csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, skipinitialspace=skip, strict=True)


class Cells(NamedTuple):
    """The cells of a block by column, up to the first line that is malformed.

    Attributes:
        lines: at which each record starts.
        problem: what is wrong with the line after them.
    """

    columns: Sequence[Sequence[str]]
    lines: NDArray[np.int64]
    problem: MalformedRow | None


def _cells(data: CsvText) -> Cells:
    return split_cells(data) or read_cells(data)


def split_cells(data: CsvText) -> Cells | None:
    """The cells of a block without quotation marks, blank lines or anything wrong; None if it has any.

    Newlines become cells of their own, so that a single split makes all cells, and the newlines must be found in
    every (number of columns + 1)st place.
    """
    text, count, mark = data.text.replace(b"\r\n", b"\n"), len(data.names), data.delimiter
    if b'"' in text or b"\r" in text or count < 2:
        return None
    try:
        cells = text.decode().replace("\n", f"{mark}\n{mark}").split(mark)[:-1]
    except UnicodeDecodeError:
        return None
    rows = text.count(b"\n")
    if len(cells) != rows * (count + 1) or cells[count :: count + 1].count("\n") != rows:
        return None
    start = (count + 1) * data.header
    return Cells([cells[start + i :: count + 1] for i in range(count)], np.arange(data.header, rows), None)


def read_cells(data: CsvText) -> Cells:
    """The cells of any block, read as Python's csv does."""
    text, problem = _decode(data.text)
    reader = _records(text, data.delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 0
    try:
        for row in reader:
            if row:  # not a blank line
                rows.append(row)
                lines.append(start)
            start = reader.line_num
    except csv.Error as e:
        problem = _malformed(e, start)
    rows, lines = rows[data.header :], lines[data.header :]
    count = len(data.names)
    ragged = next((i for i, row in enumerate(rows) if len(row) != count), None)
    if ragged is not None:
        found = len(rows[ragged])
        problem = MalformedRow(
            f"{found} cells, not {count}", line=lines[ragged], hint="cells that have the delimiter must be quoted"
        )
        rows, lines = rows[:ragged], lines[:ragged]
    columns = list(zip(*rows, strict=True)) if rows else [()] * count
    return Cells(columns, np.array(lines, np.int64), problem)


def _malformed(e: csv.Error, line: int) -> MalformedRow:
    """What is wrong with the record that begins at a line."""
    said = str(e).partition(" - ")[0]  # without advice to programmers
    if said == "unexpected end of data":
        return MalformedRow("a quotation mark is not closed", line=line, hint="close it, or leave it out")
    if said.startswith("new-line character"):
        return MalformedRow(
            "a carriage return alone ends no line",
            line=line,
            hint="quote the cell, or convert the file: tr '\\r' '\\n'",
        )
    return MalformedRow(said, line=line, hint="cells with quotes or line ends must be quoted")


def _decode(data: bytes) -> tuple[str, MalformedRow | None]:
    """The text up to the first line that is not UTF-8, and what is wrong with that."""
    try:
        return data.decode(), None
    except UnicodeDecodeError as e:
        start = data.rfind(b"\n", 0, e.start) + 1
        encoding = "utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "latin1"
        problem = MalformedRow(
            f"the byte 0x{data[e.start]:02x} is not UTF-8",
            line=data.count(b"\n", 0, start),
            hint=f"convert the file, such as by: iconv -f {encoding} -t utf-8",
        )
        return data[:start].decode(), problem
