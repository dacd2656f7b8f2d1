"""Correct formats of unusual shape: a block for each row, records without lines; ``test_format_kit.py`` runs them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from written_files import CSV_BAD

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.columns import number_column, schema_of, to_table, to_word
from lambdaml_core.data.formats import Block, MalformedRow, Rows, Schema, Table
from lambdaml_core.errors import DataError
from lambdaml_core.testing.data_format import RowCase, RowFormatLaws, TableCase, TableFormatLaws
from lambdaml_core.testing.data_format_laws.tables import Columns

Array = NDArray[Any]


class Records:
    """Little-endian float32, the label first, after a header with the count of numbers in a row; a block a row."""

    layout: Literal["auto", "dense", "sparse"] = "dense"
    features: int | None = None

    def blocks(self, path: Path) -> Iterator[Block]:
        try:
            with path.open("rb") as file:
                head = file.read(4)
                size = 4 * struct.unpack("<I", head)[0] if len(head) == 4 else 0
                if head and not 8 <= size <= 4096:
                    raise DataError(f"{path} has rows of {size} bytes")
                first = 0
                while head and (data := file.read(size)):
                    if len(data) < size:
                        raise DataError(f"{path} ends within a row")
                    yield Block(first, data, file.tell())
                    first += 1
        except OSError as e:
            raise DataError(f"{path} cannot be read: {e.strerror}") from e

    def parse(self, data: bytes) -> Rows:
        label, *x = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(x).all():
            raise MalformedRow("a number is none", line=0)
        indices = np.arange(len(x), dtype=np.int32)
        ends = np.array([0, len(x)], np.int64)
        return Rows(np.zeros(1, np.int64), np.array([label], np.float64), ends, indices, np.array(x, np.float32))


def write_records(path: Path, x: Array, labels: Array | None) -> None:
    assert labels is not None
    with np.errstate(over="ignore"):
        rows = np.column_stack([labels, x]).astype("<f4")
    path.write_bytes(struct.pack("<I", rows.shape[1]) + rows.tobytes())


class JsonLines:
    """A JSON object a line, the columns by name; a block for each line."""

    def __init__(self, options: TableOptions) -> None:
        self.options = options

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        rows = [_row(block.data) for block in self.blocks(path)]
        names = list(rows[0]) if rows else []

        def is_number(name: str) -> bool:
            return all(not isinstance(row.get(name), str) for row in rows)

        return schema_of(names, self.options, is_number, labelled=labelled, where=str(path))

    def blocks(self, path: Path) -> Iterator[Block]:
        try:
            with path.open("rb") as file:
                for first, line in enumerate(file):
                    yield Block(first, line, file.tell())
        except OSError as e:
            raise DataError(f"{path} cannot be read: {e.strerror}") from e

    def parse(self, data: bytes, schema: Schema) -> Table:
        row, lines = _row(data), np.zeros(1, np.int64)

        def numbers(name: str) -> Array:
            return number_column(name, ["" if row[name] is None else str(row[name])], lines)

        def words(name: str) -> Array:
            return np.array([to_word(row[name])], object)

        return to_table(schema, lines, row, numbers=numbers, words=words)


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as e:
        raise MalformedRow("the line is no JSON", line=0) from e
    if not isinstance(row, dict):
        raise MalformedRow("the line is no object", line=0)
    return row


def write_json_lines(path: Path, columns: Columns) -> None:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class TestRecords(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        return RowCase(reader=Records(), write=write_records)


class TestJsonLines(TableFormatLaws):
    @pytest.fixture
    def case(self) -> TableCase:
        bad = (b"", b"[]", b"3", b'{"x": 1}', b'{"x": 1', *CSV_BAD)
        return TableCase(reader=JsonLines(TableOptions()), write=write_json_lines, suffix=".jsonl", bad_lines=bad)
