"""Apache Parquet by pyarrow: integers, floats, decimals and truth values are numbers, strings and dictionaries words.

Null and NaN are missing. Columns of any other type are refused unless they are dropped or listed in ``categorical``,
where a category is whatever Python prints for a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.columns import coded_words, kept_columns, number_column, rows_per_block, schema_of, to_table
from lambdaml_core.data.formats import Block, MalformedRow, Schema, Table
from lambdaml_core.errors import DataError, NotSupported


class Parquet:
    """Reads Parquet; implements :class:`lambdaml_core.data.formats.TableFormat`. A block is a record batch."""

    def __init__(self, options: TableOptions) -> None:
        self.options = options

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        """As the contract says.

        Raises:
            NotSupported: pyarrow is not installed.
        """
        with _open(path) as file:
            fields = file.schema_arrow
        return schema_of(
            fields.names,
            self.options,
            lambda name: _is_number(fields.field(name), path, labelled),
            labelled=labelled,
            where=str(path),
        )

    def blocks(self, path: Path) -> Iterator[Block]:
        """As the contract says."""
        arrow = _arrow()
        with _open(path) as file:
            total, size = file.metadata.num_rows, path.stat().st_size
            columns = kept_columns(file.schema_arrow.names, self.options)
            batches = file.iter_batches(rows_per_block(len(columns)), columns=columns, use_threads=False)
            first = 0
            try:
                for batch in batches:
                    last = first + batch.num_rows
                    yield Block(first, batch, size * last // total)
                    first = last
            except (arrow.ArrowException, OSError) as e:
                raise _damaged(path, e) from e

    def parse(self, data: Any, schema: Schema) -> Table:
        """As the contract says; ``data`` is a ``pyarrow.RecordBatch``."""
        lines = np.arange(data.num_rows)
        return to_table(
            schema,
            lines,
            data.schema.names,
            numbers=lambda name: _numbers(name, data.column(name), lines),
            words=lambda name: _words(name, data.column(name)),
        )


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise NotSupported(
            f"reading Parquet needs pyarrow, which cannot be imported: {e}", hint="pip install 'pyarrow>=18'"
        ) from e
    return pyarrow


def _open(path: Path) -> Any:
    arrow = _arrow()
    try:
        file = arrow.parquet.ParquetFile(path)
        file.schema_arrow.names  # noqa: B018 - raises where a name is not UTF-8
    except FileNotFoundError as e:
        raise DataError(f"{path} does not exist", hint="check the path") from e
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as e:
        raise _damaged(path, e) from e
    return file


def _damaged(path: Path, e: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {str(e).splitlines()[0]}", hint="is it damaged?")


def _is_number(field: Any, path: Path, labelled: bool) -> bool:
    """What is neither numbers nor words is refused in rows to learn from; others may have columns that nobody reads."""
    types, kind = _arrow().types, field.type
    words = (types.is_dictionary, types.is_string, types.is_large_string, types.is_string_view)
    if any(is_one(kind) for is_one in words):
        return False
    numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    if any(is_one(kind) for is_one in numbers):
        return True
    if not labelled:
        return False
    raise DataError(
        f"{path}: column {field.name!r} holds {kind}, neither numbers nor words",
        hint=f"leave it out by drop, or list it in categorical: [{field.name!r}]",
    )


def _numbers(name: str, column: Any, lines: NDArray[np.int64]) -> NDArray[np.float64]:
    arrow = _arrow()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        numbers: NDArray[np.float64] = column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    except arrow.ArrowException:  # words, some of which are no numbers; or dates
        return number_column(name, ["" if cell is None else str(cell) for cell in _cells(name, column)], lines)
    return numbers


def _words(name: str, column: Any) -> NDArray[Any]:
    arrow = _arrow()
    if not arrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.cast(arrow.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return coded_words(_cells(name, column.dictionary, codes), codes)


def _cells(name: str, values: Any, codes: NDArray[np.int64] | None = None) -> list[Any]:
    """Values as Python has them; ``codes`` say which of them each row has, if they are not those of the rows."""
    try:
        cells: list[Any] = values.to_pylist()
    except UnicodeDecodeError as e:  # pyarrow does not look whether strings are UTF-8 when it reads them
        bad = next(i for i, value in enumerate(values) if not _is_text(value))
        rows = [bad] if codes is None else [*np.flatnonzero(codes == bad).tolist(), 0]
        raise MalformedRow(f"column {name!r} has text that is not UTF-8", line=rows[0], hint="is it damaged?") from e
    return cells


def _is_text(value: Any) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
