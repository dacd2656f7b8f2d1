"""The first pass over files: several processes parse them, and each keeps its rows, sorted, in a scratch file.

Every process reads all files and parses each ``of``-th block: reading is cheap, parsing is not, and so nothing has to
be handed around. Scratch files have no name, so none can be left behind, whatever ends a process.

A parsed block is a *run* in a scratch file: its rows sorted by key, as the arrays ``keys`` (uint64), ``labels``
(float64; words as codes into this process's own vocabulary) and the rows themselves, one after the other. Rows that are
features are ``indptr`` (rows + 1, int32), ``indices`` (int32) and ``values`` (float32). Rows of a table are ``cells``
(float64, row by row, see ``preprocess.py``); their words too are codes into the process's own vocabularies, unless they
are hashed or have known categories.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.fitting import training_coders
from lambdaml_core.data.formats import Block, DataFormat, MalformedRow, RowFormat, Schema, TableFormat, is_table
from lambdaml_core.data.labels import LabelReader
from lambdaml_core.data.order import sort_keys
from lambdaml_core.data.preprocess import Coder, Preprocessing, Vocabulary, feature_columns, to_cells
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError, LambdaMLError, StorageFull
from lambdaml_core.specs import Reference, Target

Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes of the source."""

LINES_PER_FILE = 1 << 40
"""Line n of file f, both from 0, has the row number ``f * LINES_PER_FILE + n``."""


class Run(NamedTuple):
    """A run in a scratch file.

    Attributes:
        offset: where it starts.
        entries: cells of its rows that are there.
        block: number of the block that it came from, over all files.
    """

    offset: int
    rows: int
    entries: int
    block: int


@dataclass(frozen=True)
class Task:
    """One process's part of a pass: JSON, for a process of its own.

    Attributes:
        files: paths, in order.
        format: a :class:`Reference` as a mapping.
        schema: the columns of a table; None for rows.
        preprocessing: how a table was preprocessed before; None = that is to be found.
        target: what rows are labelled with.
        labels: the only labels allowed; None = any.
        share, of: it parses the blocks whose number is ``share`` modulo ``of``.
        scratch: file descriptor to write to.
        failures: file descriptor of a file with eight bytes for each process: 1 + the number of the row at which it
            failed.
        parent: process that this one does not outlive; 0 = none.
    """

    files: Sequence[str]
    format: Mapping[str, Any]
    schema: Schema | None
    preprocessing: Mapping[str, Any] | None
    target: Target
    labels: Sequence[Label] | None
    seed: int
    share: int = 0
    of: int = 1
    scratch: int = -1
    failures: int = -1
    parent: int = 0


@dataclass
class Summary:
    """What a process found.

    Attributes:
        features: the largest column, counted from 1; of a table: how many columns.
        numbers: distinct labels that are numbers.
        words: labels that are words, by their codes.
        vocabularies: words of each column of words that are not hashed or known, by their codes.
        failed: row number of the first malformed line of its part; -1 = none.
        message, hint: what is wrong with it.
    """

    runs: list[Run] = field(default_factory=list)
    features: int = 0
    numbers: set[float] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
    failed: int = -1
    message: str = ""
    hint: str | None = None

    @property
    def rows(self) -> int:
        """Rows in all runs."""
        return sum(run.rows for run in self.runs)

    @property
    def entries(self) -> int:
        """Entries in all runs."""
        return sum(run.entries for run in self.runs)

    def to_fields(self) -> dict[str, Any]:
        """JSON, for the process that started this one."""
        return {**asdict(self), "numbers": sorted(self.numbers)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Summary:
        """The inverse of :meth:`to_fields`."""
        runs = [Run(*run) for run in fields["runs"]]
        return cls(**{**fields, "runs": runs, "numbers": set(fields["numbers"])})


Keep: TypeAlias = Callable[[NDArray[Any]], tuple[int, list[NDArray[Any]]]]
"""Rows of a block in another order: how many entries they have, and the arrays to keep of them."""


class _RowBlocks:
    """Blocks of a format whose rows are features."""

    def __init__(self, reader: RowFormat) -> None:
        self._reader = reader
        self.features = 0

    def parse(self, data: Any) -> tuple[NDArray[Any], NDArray[Any], Keep]:
        """Lines, labels and rows of a block."""
        rows = self._reader.parse(data)
        self.features = max(self.features, int(rows.indices.max(initial=-1)) + 1)

        def keep(order: NDArray[Any]) -> tuple[int, list[NDArray[Any]]]:
            indptr, (indices, values) = take_rows(order, rows.indptr, rows.indices, rows.values)
            return len(values), [indptr.astype(np.int32), indices, values]

        return rows.lines, rows.labels, keep

    def vocabularies(self) -> dict[str, list[str]]:
        """Words by column: there are none."""
        return {}

    def full(self) -> bool:
        """Whether a column has more categories than it may have."""
        return False


class _TableBlocks:
    """Blocks of a format of tables."""

    def __init__(self, reader: TableFormat, task: Task) -> None:
        assert task.schema is not None  # noqa: S101  (the partitioner sees to it)
        self._reader = reader
        self._schema = Schema(*task.schema)
        self._numbers, words = feature_columns(self._schema)
        self._coders: dict[str, Coder]
        if task.preprocessing is None:
            self._coders = training_coders(words, reader.options)
        else:
            self._coders = Preprocessing.from_json(task.preprocessing).coders
        self.features = len(self._numbers) + len(self._coders)

    def parse(self, data: Any) -> tuple[NDArray[Any], NDArray[Any], Keep]:
        """Lines, labels and cells of a block."""
        table = self._reader.parse(data, self._schema)
        label = self._schema.label
        labels = np.zeros(len(table.lines)) if label is None else table.columns[label]
        cells = to_cells(table, self._numbers, self._coders)
        entries = int(np.count_nonzero(~np.isnan(cells)))
        return table.lines, labels, lambda order: (entries, [cells[order]])

    def vocabularies(self) -> dict[str, list[str]]:
        """Words by column."""
        return {name: coder.words for name, coder in self._coders.items() if isinstance(coder, Vocabulary)}

    def full(self) -> bool:
        """Whether a column has more categories than it may have."""
        most = self._reader.options.most_categories
        return any(isinstance(coder, Vocabulary) and len(coder) - 1 > most for coder in self._coders.values())


def parse_share(task: Task, progress: Progress | None = None) -> Summary:
    """Parse one process's part of the files into its scratch file.

    A malformed line is reported in the summary, and ends the work of the others once they are past it: so the first
    one is found, however the blocks are dealt out.

    Raises:
        DataError: a file cannot be read.
        StorageFull: no room for the scratch file.
    """
    reader: DataFormat = Reference(**task.format).build()
    blocks = _TableBlocks(reader, task) if is_table(reader) else _RowBlocks(cast(RowFormat, reader))
    labels = LabelReader(task.target, task.labels)
    total = sum(map(_size, task.files))
    summary, position = Summary(), 0
    for number, (first, block, read) in enumerate(_all_blocks(reader, task.files)):
        if number % task.of != task.share:
            continue
        if first > _failed_row(task) or (task.parent and os.getppid() != task.parent):
            break
        try:
            lines, found, keep = blocks.parse(block.data)
            codes = labels.read(found, lines)
        except MalformedRow as e:
            summary.failed, summary.message, summary.hint = first + e.line, e.message, e.hint
            _give_up(task, summary.failed)
            break
        if len(lines):
            keys = sort_keys(task.seed, lines + first)
            order = np.argsort(keys)
            entries, arrays = keep(order)
            summary.runs.append(Run(position, len(keys), entries, number))
            position += _append(task, [keys[order], codes[order], *arrays])
        if labels.full() or blocks.full():
            _give_up(task, first)
            break
        if progress is not None:
            progress(min(read, total), total)
    summary.features, summary.vocabularies = blocks.features, blocks.vocabularies()
    summary.numbers, summary.words = labels.numbers, labels.words
    return summary


def _all_blocks(reader: DataFormat, files: Sequence[str]) -> Iterator[tuple[int, Block, int]]:
    """The row number of each block's first line, the block, and how much has been read of all files."""
    before = 0
    for number, file in enumerate(files):
        for block in reader.blocks(Path(file)):
            yield number * LINES_PER_FILE + block.first, block, before + block.read
        before += _size(file)


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError as e:
        raise DataError(f"{file} cannot be read: {e.strerror}", hint="check the path") from e


def _give_up(task: Task, row: int) -> None:
    os.pwrite(task.failures, (row + 1).to_bytes(8, "little"), 8 * task.share)


def _failed_row(task: Task) -> float:
    found = np.frombuffer(os.pread(task.failures, 8 * task.of, 0), "<u8")
    return min((int(row) - 1 for row in found[found > 0]), default=float("inf"))


def _append(task: Task, arrays: Sequence[NDArray[Any]]) -> int:
    """Write a run; returns its size."""
    try:
        size = os.writev(task.scratch, [a.data.cast("B") for a in arrays if a.size])
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull("no room for temporary files", hint="free some space, or choose another place") from e
        raise
    if size != sum(a.nbytes for a in arrays):
        raise StorageFull("no room for temporary files", hint="free some space, or choose another place")
    return size


def take_rows(
    order: NDArray[Any], indptr: NDArray[Any], *entries: NDArray[Any]
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Rows in another order.

    Args:
        order: (m,) numbers of the rows wanted.
        indptr: (n + 1,) where each row's entries start.
        entries: arrays with one element for each entry.

    Returns:
        The new ``indptr``, from 0, and the entries of those rows.
    """
    starts, lengths = indptr[order], indptr[order + 1] - indptr[order]
    ends = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    positions = np.repeat(starts - ends[:-1], lengths)
    positions += np.arange(ends[-1])
    return ends, [array[positions] for array in entries]


def main() -> None:
    """A parsing process: a task on standard input, its summary or an error of ours on standard output."""
    task = Task(**json.load(sys.stdin))
    try:
        found = parse_share(task).to_fields()
    except LambdaMLError as e:
        found = {"error": type(e).__name__, "message": e.message, "hint": e.hint}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
