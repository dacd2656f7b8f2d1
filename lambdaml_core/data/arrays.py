"""Arrays from Python: written as the same shards as files are, so that training from memory takes the same road."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.data.columns import to_word
from lambdaml_core.data.fitting import Fitting, Recoder, training_coders
from lambdaml_core.data.formats import MalformedRow
from lambdaml_core.data.frames import Frames
from lambdaml_core.data.labels import AS_WORDS, EXACT_BELOW, as_label, check_classes, said_known
from lambdaml_core.data.merge import as_piece
from lambdaml_core.data.order import sort_keys, split_rows
from lambdaml_core.data.preprocess import Preprocessing, Vocabulary, feature_columns, to_cells
from lambdaml_core.data.shards import Label, Manifest, Piece
from lambdaml_core.data.spool import take_rows
from lambdaml_core.data.writer import PIECE_BYTES, PartitionWriter, Shape, check_request
from lambdaml_core.errors import DataError
from lambdaml_core.specs import Reference, Target
from lambdaml_core.storage.layers import FullStorage


def write_arrays(
    x: ArrayLike | Any,
    y: ArrayLike | None,
    store: FullStorage,
    *,
    shards: int,
    seed: int = 0,
    validation: float = 0.2,
    target: Target = "class",
    format: Reference | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Sequence[Label] | None = None,
) -> Manifest:
    """Write rows as a partition. A file that has them on its lines, in this order, gives the same order and split.

    Args:
        x: (n, features) numbers, dense, or sparse in any format of scipy; kept dense or sparse as it is. Or a pandas
            frame, whose columns are numbers and words: it is preprocessed as files of tables are.
        y: (n,) labels of any kind: numbers, bools or strings; numbers, where they are what is to be learned;
            None where the target is ``none``, which looks at none.
        store: where to write to.
        format: the options for a frame, as those of ``frame``.
        shards, seed, validation, target, preprocessing, labels: as for
            :func:`lambdaml_core.data.partition.partition`.

    Raises:
        DataError: shapes do not fit, NaN or infinite numbers, labels that cannot be, fewer than two of them or more
            than 10,000, or fewer rows than shards.
        OptionError, OutputExists, StorageError: as for ``partition``.
    """
    check_request(store, shards, validation)
    if preprocessing and not _is_frame(x):
        raise DataError("x has features, and the model takes raw columns", hint="give a pandas frame")
    rows: _Rows = _FrameRows(x, format, preprocessing) if _is_frame(x) else _ArrayRows(x)
    known, numbers = _labels(y, rows.count, target, labels or None)
    if len(numbers) != rows.count:
        raise DataError(f"x has {rows.count} rows and y {len(numbers)} labels", hint="give one label for each row")
    order = np.argsort(sort_keys(seed, np.arange(rows.count)))
    shape = rows.shape(known, order[: split_rows(rows.count, validation)[0]])
    step = max(1, PIECE_BYTES * shape.rows // shape.bytes)
    with PartitionWriter(store, shape, seed=seed, shards=shards, validation=validation) as writer:
        for first in range(0, shape.rows, step):
            wanted = order[first : first + step]
            writer.add({"y": numbers[wanted], **rows.take(wanted)})
        return writer.finish()


def rows_batch(x: ArrayLike | Any) -> Batch:
    """Rows of a user as a batch to predict on; ``y`` is zeros.

    Raises:
        DataError: not two-dimensional numbers, or NaN or infinite.
    """
    rows = as_rows(x)
    n = int(rows.shape[0])
    return Batch(rows, np.zeros(n, np.float32), n)


def as_rows(x: ArrayLike | Any) -> Any:
    """``x`` as (n, features) float32: C-contiguous, or a ``csr_matrix`` with sorted int32 indices.

    Raises:
        DataError: not two-dimensional numbers, or a number that is NaN, infinite or too large for float32.
    """
    rows = _sparse_rows(x) if hasattr(x, "tocsr") else _dense_rows(x)
    values = rows if isinstance(rows, np.ndarray) else rows.data
    if not np.isfinite(values).all():
        raise DataError("x has numbers that are NaN, infinite or too large for float32", hint="replace or drop them")
    return rows


def _dense_rows(x: ArrayLike) -> NDArray[np.float32]:
    _refuse_masked("x", x)
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "buifO":
            raise TypeError(f"its dtype is {array.dtype}")
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(array, np.float32)
    except (TypeError, ValueError) as e:
        raise DataError(f"x is no table of numbers: {e}", hint="encode words as numbers first") from e
    if array.ndim != 2:
        raise DataError(f"x has {array.ndim} dimensions, not 2", hint="one row is x.reshape(1, -1)")
    return rows


def _sparse_rows(x: Any) -> Any:
    from scipy.sparse import csr_matrix

    if len(x.shape) != 2 or x.dtype.kind not in "buif":
        raise DataError(f"x has shape {x.shape} and dtype {x.dtype}, not two dimensions of numbers")
    with np.errstate(over="ignore"):
        rows: Any = csr_matrix(x, dtype=np.float32)
    if not rows.has_canonical_format:
        rows = rows.copy()  # what is the user's stays as it is
        rows.sum_duplicates()
    if rows.indices.dtype != np.int32:
        rows.indices = rows.indices.astype(np.int32)
    return rows


class _Rows(Protocol):
    """Rows of a user, as they are asked for."""

    count: int

    def shape(self, labels: tuple[Label, ...], to_train: NDArray[np.intp]) -> Shape:
        """What they are like; asked for once, before any are taken."""

    def take(self, wanted: NDArray[np.intp]) -> Piece:
        """Their x, in the order wanted."""


class _ArrayRows:
    """Dense or sparse numbers."""

    def __init__(self, x: Any) -> None:
        self._x = as_rows(x)
        self.count, self._features = self._x.shape
        if self.count == 0 or self._features == 0:
            raise DataError(
                f"x has {self.count} rows and {self._features} columns", hint="training needs at least one of each"
            )

    def shape(self, labels: tuple[Label, ...], to_train: NDArray[np.intp]) -> Shape:
        if isinstance(self._x, np.ndarray):
            return Shape("dense", self.count, self._features, self._x.size, labels)
        return Shape("csr", self.count, self._features, self._x.nnz, labels)

    def take(self, wanted: NDArray[np.intp]) -> Piece:
        x = self._x
        if isinstance(x, np.ndarray):
            return {"x": x[wanted]}
        ends, (indices, values) = take_rows(wanted, x.indptr, x.indices, x.data)
        return {"lengths": np.diff(ends).astype(np.int32), "indices": indices, "values": values}


class _FrameRows:
    """A pandas frame, preprocessed; its cells are held in memory."""

    def __init__(self, frame: Any, format: Reference | None, preprocessing: Mapping[str, Any] | None) -> None:
        reader: Frames = format.build() if format else Frames(TableOptions())
        self.count, self._options = len(frame), reader.options
        if self.count == 0:
            raise DataError("x has 0 rows", hint="training needs at least one")
        self._schema = reader.schema(frame, labelled=False)
        if reader.options.label is None:  # labels come as y: a column of that name is one like the others
            self._schema = self._schema._replace(label=None)
        self._known = Preprocessing.from_json(preprocessing) if preprocessing else None
        if self._known is not None:
            self._schema = self._known.schema(self._schema, where="the frame")
            self._coders = self._known.coders
        else:
            self._coders = training_coders(feature_columns(self._schema)[1], reader.options)
        self._cells = self._read(reader, frame)

    def shape(self, labels: tuple[Label, ...], to_train: NDArray[np.intp]) -> Shape:
        entries = int(np.count_nonzero(~np.isnan(self._cells)))
        self._how = self._known or self._fitted(to_train, entries)
        how = self._how
        return Shape(how.layout, self.count, how.features, entries, labels, how.to_json())

    def take(self, wanted: NDArray[np.intp]) -> Piece:
        return as_piece(self._how.features_of(self._cells[wanted]))

    def _read(self, reader: Frames, frame: Any) -> NDArray[np.float64]:
        numbers, _ = feature_columns(self._schema)
        cells = np.empty((self.count, len(numbers) + len(self._coders)))
        for block in reader.blocks(frame):
            try:
                table = reader.parse(block.data, self._schema)
            except MalformedRow as e:
                raise DataError(f"row {block.first + e.line + 1} of x: {e.message}", hint=e.hint) from e
            cells[block.first : block.first + len(table.lines)] = to_cells(table, numbers, self._coders)
        return cells

    def _fitted(self, to_train: NDArray[np.intp], entries: int) -> Preprocessing:
        """Found from these rows; the codes of the cells become its own."""
        vocabulary = {name: c.words for name, c in self._coders.items() if isinstance(c, Vocabulary)}
        fitting = Fitting(self._schema, self._options, [vocabulary])
        step = max(1, PIECE_BYTES // (8 * max(1, self._cells.shape[1])))
        for first in range(0, len(to_train), step):
            fitting.add(self._cells[to_train[first : first + step]])
        how = fitting.finish(self.count, entries)
        Recoder(how, vocabulary).recode(self._cells)
        return how


def _is_frame(x: Any) -> bool:
    return hasattr(x, "iloc") and hasattr(x, "columns")


def _refuse_masked(name: str, array: Any) -> None:
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):  # numpy would give what is under the mask
        raise DataError(f"{name} has masked values", hint=f"drop such rows, or fill them by {name}.filled(value)")


def _column(y: ArrayLike) -> NDArray[Any]:
    _refuse_masked("y", y)
    array = np.asarray(y)
    if array.ndim != 1:
        raise DataError(f"y has {array.ndim} dimensions, not 1", hint="y.ravel() makes one of a column")
    cells = array.tolist() if array.dtype.kind == "O" else ()
    for row, cell in enumerate(cells, 1):
        if not isinstance(cell, str | int) and to_word(cell) is None:
            raise DataError(f"y has labels that are missing or NaN: row {row} is {cell}", hint="drop such rows")
    return array


def _labels(
    y: ArrayLike | None, rows: int, target: Target, known: Sequence[Label] | None
) -> tuple[tuple[Label, ...], NDArray[np.float32]]:
    """The classes, if that is the target, and what y of the shards is to be."""
    if target == "none":
        return (), np.zeros(rows if y is None else len(_column(y)), np.float32)
    assert y is not None  # noqa: S101  (who trains has looked)
    return _numbers(y) if target == "number" else _classes(y, known)


def _numbers(y: ArrayLike) -> tuple[tuple[Label, ...], NDArray[np.float32]]:
    """No classes, and the numbers to learn."""
    array = _column(y)
    try:
        if array.dtype.kind not in "buifO":
            raise TypeError(f"its dtype is {array.dtype}")
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32)
    except (TypeError, ValueError) as e:
        raise DataError(f"y is no column of numbers: {e}", hint="a model that learns numbers is given numbers") from e
    if not np.isfinite(numbers).all():
        raise DataError("y has numbers that are NaN, infinite or too large for float32", hint="drop or scale them")
    return (), numbers


def _classes(y: ArrayLike, known: Sequence[Label] | None) -> tuple[tuple[Label, ...], NDArray[np.float32]]:
    """The distinct labels in order, or those that are known, and each row's class number."""
    array = _column(y)
    if array.dtype.kind not in "biufUO":
        raise DataError(f"y has labels of dtype {array.dtype}", hint="labels are numbers, bools or strings")
    try:
        found, numbers = np.unique(array, return_inverse=True)
    except TypeError as e:
        raise DataError(f"y mixes labels of different kinds: {e}", hint="labels are all numbers or all strings") from e
    labels = tuple(map(_label, found.tolist()))
    if known is None:
        if labels:
            check_classes(labels)
        return labels, numbers.astype(np.float32)
    check_classes(known)
    place = {label: number for number, label in enumerate(known)}
    if strange := [label for label in labels if label not in place]:
        raise DataError(f"y has the label {strange[0]!r}, which is not among those known", hint=said_known(known))
    return tuple(known), np.array([place[label] for label in labels], np.float32)[numbers]


def _label(value: Any) -> Label:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError("y has labels that are NaN or infinite", hint="replace or drop such rows")
    if isinstance(value, int | float) and abs(value) >= EXACT_BELOW:
        raise DataError("y has labels from 2**53 on, too large for classes", hint=AS_WORDS)
    if isinstance(value, bool | int | float | str):
        return as_label(value)
    raise DataError(f"the label {value!r} is a {type(value).__name__}", hint="labels are numbers, bools or strings")
