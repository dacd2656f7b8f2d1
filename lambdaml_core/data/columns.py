"""What tables of every format have in common: which columns an option means, and what a column may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import MalformedRow, Schema, Table
from lambdaml_core.errors import DataError, OptionError
from lambdaml_core.options import nearest

_POSITION = re.compile(r"-?\d+")
_USUAL_LABELS = ("label", "target")


def schema_of(
    names: Sequence[str],
    options: TableOptions,
    is_number: Callable[[str], bool],
    *,
    labelled: bool,
    where: str,
) -> Schema:
    """The schema of a table that has these columns.

    Args:
        names: all columns, in order.
        is_number: whether a column holds numbers; asked about those only that the options leave open.
        labelled: whether there must be a label; without, what is to be dropped need not be there either.
        where: the table's own name, for messages.

    Raises:
        DataError: two columns have one name, there is no label, nothing is left beside it, or an option names a column
            that is not there.
        OptionError: the options contradict each other.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where} has two columns called {twice[0]!r}", hint="give each column a name of its own")
    label = _label(names, options, labelled, where)
    dropped = {_find(names, column, "drop", where) for column in options.drop if labelled or _there(names, column)}
    numeric = {_find(names, column, "numeric", where) for column in options.numeric}
    categorical = {_find(names, column, "categorical", where) for column in options.categorical}
    if both := sorted((numeric & categorical) | (dropped & (numeric | categorical | {label}))):
        raise OptionError(
            f"the column {both[0]!r} cannot be two of label, drop, numeric and categorical", hint="keep one of them"
        )
    numbers: list[str] = []
    words: list[str] = []
    for name in names:
        if name not in dropped:
            takes_numbers = name in numeric or (name not in categorical and is_number(name))
            (numbers if takes_numbers else words).append(name)
    if not {*numbers, *words} - {label}:
        raise DataError(f"{where} has no columns to learn from", hint="check the delimiter and the option drop")
    return Schema(tuple(numbers), tuple(words), label)


def kept_columns(names: Sequence[str], options: TableOptions) -> list[str]:
    """The columns that are not dropped."""
    dropped = {_position(names, column) for column in options.drop}
    return [name for i, name in enumerate(names) if i not in dropped]


def checked_table(schema: Schema, lines: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> Table:
    """The table, once its numbers are known to be finite and its labels to be there.

    Raises:
        MalformedRow: the first line with an infinite number, or without its label.
    """
    problems = []
    for name in schema.numbers:
        if (bad := np.flatnonzero(np.isinf(columns[name]))).size:
            problems.append(infinite(name, int(lines[bad[0]])))
    if schema.label is not None and (bad := np.flatnonzero(is_missing(columns[schema.label]))).size:
        line = int(lines[bad[0]])
        problems.append(
            MalformedRow(f"the label {schema.label!r} is missing", line=line, hint="replace or drop such rows")
        )
    raise_first(problems)
    return Table(lines, columns)


def infinite(name: str, line: int) -> MalformedRow:
    """The error for a number that is infinite, or too large to be told from it."""
    return MalformedRow(f"column {name!r} has an infinite number", line=line, hint="replace or drop such rows")


def is_missing(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Which cells of a column of a :class:`Table` are missing."""
    if column.dtype.kind == "f":
        missing: NDArray[np.bool_] = np.isnan(column)
        return missing
    return np.fromiter((cell is None for cell in column), np.bool_, len(column))


def raise_first(problems: Sequence[MalformedRow]) -> None:
    """Raise the problem of the first line, if there is any."""
    if problems:
        raise min(problems, key=lambda problem: problem.line)


def _label(names: Sequence[str], options: TableOptions, labelled: bool, where: str) -> str | None:
    if options.label is not None:
        return _find(names, options.label, "label", where) if labelled or _there(names, options.label) else None
    usual = [name for name in _USUAL_LABELS if name in names]
    if len(usual) == 1:
        return usual[0]
    if not labelled:
        return None
    raise DataError(
        f"{where} has {'both' if usual else 'no'} column called {' or '.join(_USUAL_LABELS)}",
        hint="name the column of the labels by the option label; -1 is the last one",
    )


def _find(names: Sequence[str], column: str, option: str, where: str) -> str:
    position = _position(names, column)
    if position is None:
        raise DataError(f"{where} has no column {column!r}, named by {option}", hint=nearest(column, names))
    return names[position]


def _there(names: Sequence[str], column: str) -> bool:
    return _position(names, column) is not None


def _position(names: Sequence[str], column: str) -> int | None:
    """Where a column is that is given by name or, if none is called so, by number."""
    if column in names:
        return names.index(column)
    if _POSITION.fullmatch(column) and -len(names) <= int(column) < len(names):
        return int(column) % len(names)
    return None
