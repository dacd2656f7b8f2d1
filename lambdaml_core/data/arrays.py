"""Arrays from Python: written as the same shards as files are, so that training from memory takes the same road."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.data.order import sort_keys
from lambdaml_core.data.shards import Label, Manifest, Piece
from lambdaml_core.data.spool import take_rows
from lambdaml_core.data.writer import PIECE_BYTES, PartitionWriter, Shape, check_request
from lambdaml_core.errors import DataError
from lambdaml_core.storage.layers import FullStorage


def write_arrays(
    x: ArrayLike | Any,
    y: ArrayLike,
    store: FullStorage,
    *,
    shards: int,
    seed: int = 0,
    validation: float = 0.2,
) -> Manifest:
    """Write rows as a partition. A file that has them on its lines, in this order, gives the same order and split.

    Args:
        x: (n, features) numbers, dense, or sparse in any format of scipy; kept dense or sparse as it is.
        y: (n,) labels of any kind: numbers, bools or strings.
        store: where to write to.
        shards, seed, validation: as for :func:`lambdaml_core.data.partition.partition`.

    Raises:
        DataError: shapes do not fit, NaN or infinite numbers, other than two labels, or fewer rows than shards.
        OptionError, OutputExists, StorageError: as for ``partition``.
    """
    check_request(store, shards, validation)
    rows = as_rows(x)
    labels, numbers = _classes(y)
    n, features = rows.shape
    if len(numbers) != n:
        raise DataError(f"x has {n} rows and y {len(numbers)} labels", hint="give one label for each row")
    if n == 0 or features == 0:
        raise DataError(f"x has {n} rows and {features} columns", hint="training needs at least one of each")
    sparse = not isinstance(rows, np.ndarray)
    shape = Shape("csr" if sparse else "dense", n, features, rows.nnz if sparse else n * features, labels)
    with PartitionWriter(store, shape, seed=seed, shards=shards, validation=validation) as writer:
        for piece in _pieces(rows, numbers, shape, seed):
            writer.add(piece)
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


def _classes(y: ArrayLike) -> tuple[tuple[Label, ...], NDArray[np.float32]]:
    """The distinct labels in order, and each row's class number."""
    array = np.asarray(y)
    if array.ndim != 1:
        raise DataError(f"y has {array.ndim} dimensions, not 1", hint="y.ravel() makes one of a column")
    if array.dtype.kind not in "biufUO":
        raise DataError(f"y has labels of dtype {array.dtype}", hint="labels are numbers, bools or strings")
    try:
        found, numbers = np.unique(array, return_inverse=True)
    except TypeError as e:
        raise DataError(f"y mixes labels of different kinds: {e}", hint="labels are all numbers or all strings") from e
    return tuple(_label(v) for v in found.tolist()), numbers.astype(np.float32)


def _label(value: Any) -> Label:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError("y has labels that are NaN or infinite", hint="replace or drop such rows")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | int | float | str):
        return value
    raise DataError(f"the label {value!r} is a {type(value).__name__}", hint="labels are numbers, bools or strings")


def _pieces(rows: Any, numbers: NDArray[np.float32], shape: Shape, seed: int) -> Iterator[Piece]:
    order = np.argsort(sort_keys(seed, np.arange(shape.rows)))
    step = max(1, PIECE_BYTES * shape.rows // shape.bytes)
    for first in range(0, shape.rows, step):
        wanted = order[first : first + step]
        y = numbers[wanted]
        if shape.layout == "dense":
            yield {"y": y, "x": rows[wanted]}
        else:
            ends, (indices, values) = take_rows(wanted, rows.indptr, rows.indices, rows.data)
            yield {"y": y, "lengths": np.diff(ends).astype(np.int32), "indices": indices, "values": values}
