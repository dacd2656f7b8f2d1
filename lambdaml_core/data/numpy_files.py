"""NPY and NPZ files of numpy: a matrix of any numbers, its labels in a column of it, beside it, or in a file of theirs.

NPY files are mapped, not read. An NPZ file is read as a whole, and may be what ``scipy.sparse.save_npz`` writes.
Nothing in them is unpickled.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import ArrayOptions
from lambdaml_core.data.formats import Block, MalformedRow, Rows
from lambdaml_core.errors import DataError, LambdaMLError
from lambdaml_core.options import nearest

_BLOCK_CELLS = 1 << 18
_MOST_COLUMNS = 2**31 - 1  # indices are int32


class Matrix(NamedTuple):
    """What a file has.

    Attributes:
        x: (n, columns) numbers, an ndarray or a ``scipy.sparse.csr_matrix``.
        y: (n,) labels; None where there are none, or where they are in x.
        label: the column of x that has the labels.
    """

    x: Any
    y: NDArray[Any] | None
    label: int | None = None


class Slice(NamedTuple):
    """A block: some rows of a matrix, which are read when it is parsed."""

    matrix: Matrix
    first: int
    last: int


class _Matrices(ABC):
    """What NPY and NPZ have in common; rows without labels get NaN."""

    features: int | None = None  # told by the rows themselves

    def __init__(self, options: ArrayOptions) -> None:
        self._options = options
        self.layout = cast(Literal["auto", "dense", "sparse"], options.layout)

    @abstractmethod
    def _load(self, path: Path, features: int | None) -> Matrix:
        """Open a file; with ``features``, that is what a model takes, and labels need not be there."""

    def blocks(self, path: Path) -> Iterator[Block]:
        """As the contract says."""
        yield from _slices(path, self._load(path, None))

    def unlabelled(self, path: Path, features: int) -> Iterator[Block]:
        """As :class:`lambdaml_core.data.formats.SupportsUnlabelled` says."""
        yield from _slices(path, self._load(path, features))

    def parse(self, data: Slice) -> Rows:
        """As the contract says; zeros are left out but for one, where it is needed to tell the number of columns."""
        (x, y, label), rows, count = data.matrix, slice(data.first, data.last), data.last - data.first
        x = x[rows]
        y = x[:, label] if label is not None else np.full(count, np.nan) if y is None else y[rows]
        x = x if label is None else np.delete(x, label, axis=1)
        indptr, indices, values = _entries(x) if isinstance(x, np.ndarray) else (x.indptr, x.indices, x.data)
        numbers = _as_float32(indptr, indices, values)
        if count and (indptr[1] == 0 or indices[indptr[1] - 1] < x.shape[1] - 1):
            indices = np.insert(indices, indptr[1], x.shape[1] - 1)
            numbers = np.insert(numbers, indptr[1], 0)
            indptr = indptr + (np.arange(count + 1) > 0)
        labels = y.astype(object if y.dtype.kind == "U" else np.float64)
        return Rows(np.arange(count), labels, indptr.astype(np.int64), indices.astype(np.int32), numbers)


class Npy(_Matrices):
    """Reads NPY files; implements :class:`lambdaml_core.data.formats.RowFormat`."""

    def _load(self, path: Path, features: int | None) -> Matrix:
        x = _matrix(path, _array(path))
        if (beside := _labels_file(path, self._options, features)) is not None:
            return Matrix(x, _labels(beside, _array(beside), x.shape[0]))
        columns, label = x.shape[1], self._options.label
        if columns == features:
            return Matrix(x, None)
        if not -columns <= label < columns or columns == 1:
            raise DataError(
                f"{path} has {columns} columns, of which {label} cannot be the labels",
                hint="set the option label, or labels if they are in another file",
            )
        return Matrix(x, None, label % columns)


class Npz(_Matrices):
    """Reads NPZ files; implements :class:`lambdaml_core.data.formats.RowFormat`."""

    def _load(self, path: Path, features: int | None) -> Matrix:
        with _reading(path), path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            sparse = {"format", "shape", "data"} <= set(arrays.files)
            x = _sparse(path) if sparse else _named(path, arrays, self._options.x, "x")
            x = x if sparse else _matrix(path, x)
            if (beside := _labels_file(path, self._options, features)) is not None:
                return Matrix(x, _labels(beside, _array(beside), x.shape[0]))
            if features is not None and self._options.y not in arrays.files:
                return Matrix(x, None)
            return Matrix(x, _labels(path, _named(path, arrays, self._options.y, "y"), x.shape[0]))


def _slices(path: Path, matrix: Matrix) -> Iterator[Block]:
    rows, columns = matrix.x.shape
    cells = columns if isinstance(matrix.x, np.ndarray) else -(-matrix.x.nnz // max(1, rows))
    length, size = max(1, _BLOCK_CELLS // max(1, cells)), path.stat().st_size
    for first in range(0, rows, length):
        last = min(first + length, rows)
        yield Block(first, Slice(matrix, first, last), size * last // rows)


def _entries(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """indptr, indices and values of what is not 0 in a dense matrix."""
    there = x != 0
    indptr = np.zeros(len(x) + 1, np.int64)
    np.cumsum(there.sum(axis=1), out=indptr[1:])
    return indptr, there.nonzero()[1], x[there]


def _as_float32(indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if (bad := np.flatnonzero(~np.isfinite(numbers))).size:
        first = bad[0]
        what = "too large" if np.isfinite(values[first]) else "no number to learn from"
        raise MalformedRow(
            f"feature {indices[first]} is {values[first]}, which is {what}",
            line=int(np.searchsorted(indptr, first, side="right")) - 1,
            hint="scale the column" if np.isfinite(values[first]) else "replace or drop such rows",
        )
    return numbers


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except LambdaMLError:
        raise
    except FileNotFoundError as e:
        raise DataError(f"{path} does not exist", hint="check the path") from e
    except Exception as e:  # numpy and zipfile let a damaged header raise almost anything
        said = (str(e).splitlines() or [type(e).__name__])[0]
        raise DataError(f"{path} cannot be read as an array: {said}", hint="is it damaged, or has it objects?") from e


def _array(path: Path) -> NDArray[Any]:
    with _reading(path), np.errstate(over="ignore"):  # by the size that a damaged header tells
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _named(path: Path, arrays: Any, name: str, option: str) -> NDArray[Any]:
    if name not in arrays.files:
        raise DataError(
            f"{path} has no array {name!r}; the option {option} says which it is", hint=nearest(name, arrays.files)
        )
    array: NDArray[Any] = arrays[name]
    return array


def _matrix(path: Path, x: NDArray[Any]) -> NDArray[Any]:
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{path} has an array of shape {x.shape}", hint="rows and columns are needed")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path} has an array of {x.dtype}", hint="numbers that are not complex are needed")
    return x


def _sparse(path: Path) -> Any:
    """As csr, its indices checked and in order."""
    import scipy.sparse

    x: Any = scipy.sparse.load_npz(path)
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype.kind not in "biuf":
        raise DataError(f"{path} has a sparse array of {x.dtype}, of shape {x.shape}", hint="a matrix is needed")
    if x.shape[1] > _MOST_COLUMNS:
        raise DataError(f"{path} has {x.shape[1]} columns", hint=f"at most {_MOST_COLUMNS} are possible")
    x = x.tocsr()
    x.check_format(full_check=True)
    x.sum_duplicates()
    return x


def _labels_file(path: Path, options: ArrayOptions, features: int | None) -> Path | None:
    """The file that has the labels alone; rows to predict on may be without."""
    if options.labels is None:
        return None
    file = path.parent / options.labels
    return file if features is None or file.exists() else None


def _labels(path: Path, y: NDArray[Any], rows: int) -> NDArray[Any]:
    if y.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{path} has labels of shape {y.shape} for {rows} rows", hint="one label a row is needed")
    if y.dtype.kind not in "biufUS":
        raise DataError(f"{path} has labels of {y.dtype}", hint="numbers or words are needed")
    with _reading(path):
        return np.char.decode(y, "utf-8").reshape(-1) if y.dtype.kind == "S" else y.reshape(-1)
