"""What tables of every format have in common: which columns an option means, and what a cell says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import MalformedRow, Schema, Table
from lambdaml_core.errors import DataError, OptionError
from lambdaml_core.options import nearest

MISSING = frozenset(("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "NaT"))
"""What pandas, R and SQL write where there is nothing; in every format, so that a model can be given any."""

_BLOCK_CELLS = 1 << 20
_SHOWN = 8  # columns in a hint
_SAMPLE = 1000  # cells that tell whether it is worth while to remember them
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


def rows_per_block(columns: int) -> int:
    """How many rows of a table that has no lines make a block: about a million cells."""
    return max(1, _BLOCK_CELLS // max(16, columns))


def to_table(
    schema: Schema,
    lines: NDArray[np.int64],
    names: Collection[str],
    *,
    numbers: Callable[[str], NDArray[np.float64]],
    words: Callable[[str], NDArray[Any]],
) -> Table:
    """A table, from what makes each column.

    Args:
        lines: of the rows.
        names: columns that are there.
        numbers, words: make the column of a name, or raise MalformedRow.

    Raises:
        MalformedRow: a column is not there, or the first line that cannot be read or has an infinite number.
    """
    if absent := [name for name in (*schema.numbers, *schema.words) if name not in names]:
        raise MalformedRow(f"there is no column {absent[0]!r}", line=0, hint=nearest(absent[0], names))
    columns = {name: words(name) for name in schema.words}
    problems = []
    for name in schema.numbers:
        try:
            columns[name] = _finite(name, numbers(name), lines)
        except MalformedRow as e:
            problems.append(e)
    if problems:
        raise min(problems, key=lambda problem: problem.line)
    return Table(lines, columns)


def to_word(cell: Any) -> str | None:
    """The word of a cell: its text without spaces around it, 3 for 3.0; None where it is missing."""
    if isinstance(cell, float | np.floating):
        cell = int(cell) if cell.is_integer() else None if np.isnan(cell) else cell
    word = str(cell).strip()  # None becomes one of the missing words
    return None if word in MISSING else word


def word_column(cells: Iterable[str]) -> NDArray[Any]:
    """The words of cells of text, as :func:`to_word` makes them; (n,) ``str`` or None."""
    return np.array(list(map(_Words().__getitem__, cells)), object)


def coded_words(cells: Iterable[Any], codes: NDArray[np.integer]) -> NDArray[Any]:
    """The words of a column that has a few distinct cells.

    Args:
        cells: the distinct ones.
        codes: (n,) which of them each row has; -1 = none.
    """
    words = np.array([*map(to_word, cells), None], object)
    column: NDArray[Any] = words[codes]
    return column


def number_column(name: str, cells: Sequence[str], lines: NDArray[np.int64]) -> NDArray[np.float64]:
    """The numbers that cells of text say; (n,) with NaN where one is missing.

    Args:
        name: of the column, for messages.
        lines: of the cells.

    Raises:
        MalformedRow: the first cell that is no number.
    """
    known, sample = _Numbers(), cells[:_SAMPLE]
    repeated = 2 * len(set(sample)) < len(sample)
    try:
        numbers = np.fromiter(map(known.__getitem__ if repeated else float, cells), np.float64, len(cells))
        if repeated or not (np.isnan(numbers).any() or "_" in "".join(cells)):
            return numbers
    except ValueError:
        pass  # something is missing, or is no number
    numbers, row = np.empty(len(cells)), 0
    try:
        for row, cell in enumerate(cells):
            numbers[row] = known[cell]
    except ValueError as e:
        raise _no_number(name, cells[row].strip(), int(lines[row])) from e
    return numbers


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether cells of text are numbers, or missing."""
    try:
        number_column("", cells, np.zeros(len(cells), np.int64))
    except MalformedRow:
        return False
    return True


class _Words(dict[str, str | None]):
    """The word of each cell; a column has few, and looking one up is quicker than making it again."""

    def __missing__(self, cell: str) -> str | None:
        found = self[cell] = to_word(cell)
        return found


class _Numbers(dict[str, float]):
    """The number of each cell, NaN where it is missing; ValueError where it is none."""

    def __missing__(self, cell: str) -> float:
        word = cell.strip()
        number = self[cell] = math.nan if word in MISSING else _strictly(word)
        return number


def _strictly(word: str) -> float:
    number = float(word)
    if math.isnan(number) or "_" in word:  # float() takes -nan and 1_000
        raise ValueError(word)
    return number


def _no_number(name: str, word: str, line: int) -> MalformedRow:
    shown = word[:40] + ("..." if len(word) > 40 else "")
    return MalformedRow(
        f"column {name!r} has {shown!r}, which is no number",
        line=line,
        hint=f"mend it, or train with categorical: [{name!r}]",
    )


def _finite(name: str, numbers: NDArray[np.float64], lines: NDArray[np.int64]) -> NDArray[np.float64]:
    if (bad := np.flatnonzero(np.isinf(numbers))).size:
        raise MalformedRow(
            f"column {name!r} has an infinite number", line=int(lines[bad[0]]), hint="replace or drop such rows"
        )
    return numbers


def _label(names: Sequence[str], options: TableOptions, labelled: bool, where: str) -> str | None:
    if options.label is not None:
        label = str(options.label)
        return _find(names, label, "label", where) if labelled or _there(names, label) else None
    usual = [name for name in _USUAL_LABELS if name in names]
    if len(usual) == 1:
        return usual[0]
    if not labelled:
        return None
    there = ", ".join(map(repr, names[:_SHOWN])) + (" ..." if len(names) > _SHOWN else "")
    raise DataError(
        f"{where} has {'both' if usual else 'no'} column called {' or '.join(_USUAL_LABELS)}",
        hint=f"name the column of the labels by the option label, -1 is the last one; there are {there}",
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
