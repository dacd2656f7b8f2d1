"""pandas frames given from Python, without importing pandas: integers, floats and truth values are numbers, categories
and strings words. Columns of objects are what their cells are: all numbers, or all strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.columns import coded_words, number_column, rows_per_block, schema_of, to_table
from lambdaml_core.data.formats import Block, MalformedRow, Schema, Table
from lambdaml_core.errors import DataError

_FRAME = "the frame"


class Frames:
    """Reads frames; implements :class:`lambdaml_core.data.formats.TableFormat`, with a frame in place of a path."""

    def __init__(self, options: TableOptions) -> None:
        self.options = options

    def schema(self, path: Any, *, labelled: bool = True) -> Schema:
        """As :func:`frame_schema`."""
        return frame_schema(path, self.options, labelled=labelled)

    def blocks(self, path: Any) -> Iterator[Block]:
        """Slices of a frame; a block's ``read`` counts rows."""
        length = rows_per_block(len(_names(path)))
        for first in range(0, len(path), length):
            rows = path.iloc[first : first + length]
            yield Block(first, rows, first + len(rows))

    def parse(self, data: Any, schema: Schema) -> Table:
        """As :func:`frame_table`."""
        return frame_table(data, schema)


def frame_schema(frame: Any, options: TableOptions, *, labelled: bool = True) -> Schema:
    """The columns of a frame; names that are no strings become their text.

    Args:
        labelled: whether there must be a column of labels.

    Raises:
        DataError: not a frame, an option names a column that is not there, or a column's cells are neither numbers nor
            words.
        OptionError: the options contradict each other.
    """
    names = _names(frame)
    return schema_of(
        names,
        options,
        lambda name: _is_number(frame.iloc[:, names.index(name)], name),
        labelled=labelled,
        where=_FRAME,
    )


def frame_table(frame: Any, schema: Schema) -> Table:
    """The rows of a frame; lines count its rows from 0, whatever its index.

    Raises:
        MalformedRow: the first row that has a word or an infinite number in a column of numbers.
    """
    names, lines = _names(frame), np.arange(len(frame))
    return to_table(
        schema,
        lines,
        names,
        numbers=lambda name: _numbers(name, frame.iloc[:, names.index(name)], lines),
        words=lambda name: _words(name, frame.iloc[:, names.index(name)]),
    )


def _names(frame: Any) -> list[str]:
    if not (hasattr(frame, "iloc") and hasattr(frame, "columns")):
        raise DataError(
            f"a {type(frame).__name__} is no pandas frame", hint="frames come from Python; files have other formats"
        )
    return [str(column) for column in frame.columns]


def _is_number(column: Any, name: str) -> bool:
    if str(column.dtype) == "category":
        return False
    if column.dtype.kind in "biuf":
        return True
    cells = column.dropna().to_numpy(object)
    for kinds, answer in (((Real, Decimal, np.bool_), True), (str, False)):
        if all(isinstance(cell, kinds) for cell in cells):
            return answer
    kinds_found = " and ".join(sorted({type(cell).__name__ for cell in cells}))
    raise DataError(
        f"column {name!r} of {_FRAME} holds {kinds_found}, neither numbers nor words",
        hint=f"leave it out by drop, or list it in categorical: [{name!r}]",
    )


def _numbers(name: str, column: Any, lines: NDArray[np.int64]) -> NDArray[np.float64]:
    if column.dtype.kind in "biuf":
        numbers: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
        return numbers
    cells = zip(column.to_numpy(object), column.isna(), strict=True)
    return number_column(name, ["" if missing else _text(cell) for cell, missing in cells], lines)


def _text(cell: Any) -> str:
    try:
        return repr(float(cell)) if isinstance(cell, Real | Decimal | np.bool_) else str(cell)
    except OverflowError:  # an integer of more than 308 digits
        return "inf"


def _words(name: str, column: Any) -> NDArray[Any]:
    if str(column.dtype) == "category":
        return coded_words(column.cat.categories, column.cat.codes.to_numpy())
    try:
        codes, cells = column.factorize()
    except TypeError as e:  # lists and the like
        raise MalformedRow(f"column {name!r} has cells that are no words", line=0, hint="leave it out by drop") from e
    return coded_words(cells, codes)
