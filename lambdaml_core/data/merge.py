"""The second pass: rows are gathered from the scratch files, in their final order and in pieces of bounded size.

The order of rows is that of their keys, and every run is sorted, so a range of keys is a slice of each run. The rows to
train on are those with the smallest keys: a first part of each run, known before any row is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.fitting import Fitting, Recoder
from lambdaml_core.data.order import key_ranges
from lambdaml_core.data.preprocess import Preprocessing
from lambdaml_core.data.shards import Piece
from lambdaml_core.data.spool import Run, Summary, take_rows
from lambdaml_core.data.writer import PIECE_BYTES, Shape
from lambdaml_core.errors import LambdaMLError

_KEY_BITS = 64
_COARSE_BITS = 16


class Spool(NamedTuple):
    """What a process left: its scratch file, and what it found."""

    file: int
    summary: Summary


class Slice(NamedTuple):
    """Rows first to last of a run of a process."""

    process: int
    file: int
    run: Run
    first: int
    last: int

    def read(self, offset: int, dtype: str, width: int = 1) -> NDArray[Any]:
        """What an array at this offset in the run, with ``width`` elements a row, has for these rows."""
        size = np.dtype(dtype).itemsize * width
        return _read(self.file, self.run.offset + offset + size * self.first, dtype, (self.last - self.first) * width)

    def keys(self) -> NDArray[np.uint64]:
        """Sort keys, rising."""
        return self.read(0, "<u8")

    def labels(self) -> NDArray[np.float64]:
        """Labels as they were written."""
        return self.read(8 * self.run.rows, "<f8")

    def cells(self, columns: int) -> NDArray[np.float64]:
        """The cells of a table, (rows, columns)."""
        return self.read(16 * self.run.rows, "<f8", columns).reshape(-1, columns)

    def entries(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Lengths, indices and values of rows that are features."""
        at_indptr = self.run.offset + 16 * self.run.rows
        at_indices = at_indptr + 4 * (self.run.rows + 1)
        at_values = at_indices + 4 * self.run.entries
        indptr = _read(self.file, at_indptr + 4 * self.first, "<i4", self.last - self.first + 1)
        start, entries = int(indptr[0]), int(indptr[-1] - indptr[0])
        return (
            np.diff(indptr),
            _read(self.file, at_indices + 4 * start, "<i4", entries),
            _read(self.file, at_values + 4 * start, "<f4", entries),
        )


Numbers: TypeAlias = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Turns the labels of a process into y."""

Join: TypeAlias = Callable[[Sequence[Slice], NDArray[np.intp]], Piece]
"""Makes x of slices whose rows are wanted in another order."""


def whole_runs(spools: Sequence[Spool]) -> list[Slice]:
    """All runs, in the order of the blocks that they came from."""
    runs = [Slice(i, s.file, run, 0, run.rows) for i, s in enumerate(spools) for run in s.summary.runs]
    return sorted(runs, key=lambda s: s.run.block)


def first_rows(runs: Sequence[Slice], count: int) -> list[Slice]:
    """What the runs have of the ``count`` rows with the smallest keys.

    Args:
        count: less than all rows, or all.
    """
    if count == sum(run.last for run in runs):
        return list(runs)
    bound = _key_at(runs, count)
    return [run._replace(last=int(np.searchsorted(run.keys(), bound))) for run in runs]


def _key_at(runs: Sequence[Slice], rank: int) -> np.uint64:
    """The key that has ``rank`` smaller ones; found in two looks, so that not all have to be in memory."""
    shift = np.uint64(_KEY_BITS - _COARSE_BITS)
    counts = np.zeros(1 << _COARSE_BITS, np.int64)
    for run in runs:
        counts += np.bincount((run.keys() >> shift).astype(np.int64), minlength=len(counts))
    ends = np.cumsum(counts)
    coarse = int(np.searchsorted(ends, rank, side="right"))
    keys = np.concatenate([keys[keys >> shift == coarse] for keys in (run.keys() for run in runs)])
    found: np.uint64 = np.sort(keys)[rank - int(ends[coarse] - counts[coarse])]
    return found


def fit(runs: Sequence[Slice], fitting: Fitting, columns: int) -> None:
    """One sweep over the cells of the rows to train on, in an order that does not depend on the processes."""
    for run in runs:
        if run.last:
            fitting.add(run.cells(columns), run.process)


def pieces(runs: Sequence[Slice], shape: Shape, kept: int, numbers: Sequence[Numbers], join: Join) -> Iterator[Piece]:
    """All rows in their order.

    Args:
        kept: about how many bytes all runs have.
        numbers: for each process, what turns its labels into y.
    """
    count = -(-max(1, shape.bytes, kept) // PIECE_BYTES)
    bounds = key_ranges(count)
    cuts = [np.r_[0, np.searchsorted(run.keys(), bounds), run.last].tolist() for run in runs]
    for i in range(count):
        parts = [run._replace(first=cut[i], last=cut[i + 1]) for run, cut in zip(runs, cuts, strict=True)]
        if parts := [part for part in parts if part.first < part.last]:
            order = np.argsort(np.concatenate([part.keys() for part in parts]))
            y = np.concatenate([numbers[part.process](part.labels()) for part in parts])
            yield {"y": y[order], **join(parts, order)}


def join_rows(shape: Shape) -> Join:
    """For rows that are features, in the layout of the shards."""

    def join(parts: Sequence[Slice], order: NDArray[np.intp]) -> Piece:
        lengths, indices, values = map(np.concatenate, zip(*(part.entries() for part in parts), strict=True))
        indptr = np.zeros(len(order) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        if shape.layout == "dense":
            return {"x": scatter(order, indptr, indices, values, shape.features)}
        ends, (indices, values) = take_rows(order, indptr, indices, values)
        return {"lengths": np.diff(ends).astype(np.int32), "indices": indices, "values": values}

    return join


def join_cells(preprocessing: Preprocessing, recoders: Sequence[Recoder], columns: int) -> Join:
    """For rows of tables, which are preprocessed."""

    def join(parts: Sequence[Slice], order: NDArray[np.intp]) -> Piece:
        blocks = []
        for part in parts:
            blocks.append(part.cells(columns))
            recoders[part.process].recode(blocks[-1])
        return as_piece(preprocessing.features_of(np.concatenate(blocks)[order]))

    return join


def as_piece(x: Any) -> Piece:
    """Rows, dense or a ``csr_matrix``, as the arrays of a shard."""
    if isinstance(x, np.ndarray):
        return {"x": x}
    return {"lengths": np.diff(x.indptr).astype(np.int32), "indices": x.indices, "values": x.data}


def scatter(
    order: NDArray[Any], indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any], features: int
) -> NDArray[np.float32]:
    """Sparse rows as dense ones, (n, features), in the order wanted; cells that are not there are 0."""
    x = np.zeros((len(order), features), np.float32)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) * features
    x.reshape(-1)[np.repeat(place, np.diff(indptr)) + indices] = values
    return x


def _read(file: int, offset: int, dtype: str, count: int) -> NDArray[Any]:
    array = np.empty(count, dtype)
    if count and os.preadv(file, [array.data.cast("B")], offset) != array.nbytes:
        raise LambdaMLError("a temporary file is shorter than what was written to it")
    return array
