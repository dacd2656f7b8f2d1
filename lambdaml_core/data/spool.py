"""The first pass over a file: several processes parse it, and each keeps its rows, sorted, in a scratch file.

Every process reads the whole file and parses each ``of``-th block: reading is cheap, parsing is not, and so nothing
has to be handed around. Scratch files have no name, so none can be left behind, whatever ends a process.

A parsed block is a *run* in a scratch file: its rows sorted by key, as the arrays ``keys`` (uint64), ``labels``
(float64), ``indptr`` (rows + 1, int32), ``indices`` (int32) and ``values`` (float32), one after the other.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.formats import MalformedRow, RowFormat, Rows
from lambdaml_core.data.order import sort_keys
from lambdaml_core.errors import DataError, LambdaMLError, StorageFull
from lambdaml_core.specs import Reference

Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes of the source."""

_MAX_LABELS = 3  # more than two are refused, so there is no need to know all of them


class Run(NamedTuple):
    """Where a run starts in its scratch file, and how long it is."""

    offset: int
    rows: int
    entries: int


@dataclass(frozen=True)
class Task:
    """One process's part of a pass: JSON, for a process of its own.

    Attributes:
        format: a :class:`Reference` as a mapping.
        share, of: it parses the blocks whose number is ``share`` modulo ``of``.
        scratch: file descriptor to write to.
        failures: file descriptor of a file with eight bytes for each process: 1 + the line at which it failed.
        parent: process that this one does not outlive; 0 = none.
    """

    source: str
    format: Mapping[str, Any]
    seed: int
    share: int
    of: int
    scratch: int
    failures: int
    parent: int = 0


@dataclass
class Summary:
    """What a process found.

    Attributes:
        features: the largest column, counted from 1.
        labels: distinct labels; a few, if there are too many.
        line, message, hint: of the first malformed line of its part, from 0; -1 = none.
    """

    runs: list[Run] = field(default_factory=list)
    features: int = 0
    labels: set[float] = field(default_factory=set)
    line: int = -1
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
        return {**asdict(self), "labels": sorted(self.labels)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Summary:
        """The inverse of :meth:`to_fields`."""
        runs = [Run(*run) for run in fields["runs"]]
        return cls(**{**fields, "runs": runs, "labels": set(fields["labels"])})


def parse_share(task: Task, progress: Progress | None = None) -> Summary:
    """Parse one process's part of a file into its scratch file.

    A malformed line is reported in the summary, and ends the work of the others once they are past it: so the first
    one in the file is found, however the blocks are dealt out.

    Raises:
        DataError: the file cannot be read.
        StorageFull: no room for the scratch file.
    """
    reader: RowFormat = Reference(**task.format).build()
    total = _size(task.source)
    summary, position = Summary(), 0
    for number, block in enumerate(reader.blocks(Path(task.source))):
        if number % task.of != task.share:
            continue
        if block.first > _failed_line(task) or (task.parent and os.getppid() != task.parent):
            break
        try:
            rows = reader.parse(block.data)
        except MalformedRow as e:
            summary.line, summary.message, summary.hint = block.first + e.line, e.message, e.hint
            _give_up(task, summary.line)
            break
        if len(rows.labels):
            position += _append(task, summary, rows, block.first, position)
        if len(summary.labels) >= _MAX_LABELS:
            _give_up(task, block.first)
            break
        if progress is not None:
            progress(min(block.read, total), total)
    return summary


def _size(source: str) -> int:
    try:
        return Path(source).stat().st_size
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}", hint="check the path") from e


def _give_up(task: Task, line: int) -> None:
    os.pwrite(task.failures, (line + 1).to_bytes(8, "little"), 8 * task.share)


def _failed_line(task: Task) -> float:
    found = np.frombuffer(os.pread(task.failures, 8 * task.of, 0), "<u8")
    return min((int(line) - 1 for line in found[found > 0]), default=float("inf"))


def _append(task: Task, summary: Summary, rows: Rows, first: int, position: int) -> int:
    """Write a block as a run; returns its size."""
    keys = sort_keys(task.seed, rows.lines + first)
    order = np.argsort(keys)
    indptr, (indices, values) = take_rows(order, rows.indptr, rows.indices, rows.values)
    arrays = keys[order], rows.labels[order], indptr.astype(np.int32), indices, values
    try:
        size = os.writev(task.scratch, [a.data.cast("B") for a in arrays if a.size])
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull("no room for temporary files", hint="free some space, or choose another place") from e
        raise
    if size != sum(a.nbytes for a in arrays):
        raise StorageFull("no room for temporary files", hint="free some space, or choose another place")
    summary.runs.append(Run(position, len(keys), len(values)))
    summary.features = max(summary.features, int(indices.max(initial=-1)) + 1)
    summary.labels.update(np.unique(rows.labels)[:_MAX_LABELS].tolist())
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
