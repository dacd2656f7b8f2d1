"""The contract of a data format: how a file becomes rows, a bounded block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from lambdaml_core.errors import DataError


class Block(NamedTuple):
    """Consecutive lines of a file.

    Attributes:
        first: number of its first line in the file, from 0. For a format without lines: of its first row.
        data: some MiB that end at the end of a row, in whatever form :meth:`DataFormat.parse` takes.
        read: bytes of the file that have been read so far, for showing progress.
    """

    first: int
    data: bytes
    read: int


class Rows(NamedTuple):
    """A block of parsed rows.

    Attributes:
        lines: (n,) int64, the number of each row's line within the block, from 0; increasing. A row is known by its
            line in the file: that is what the shuffle goes by.
        labels: (n,) float64 as they stand in the file.
        indptr: (n + 1,) int64; row i has the entries indptr[i]:indptr[i + 1].
        indices: int32 columns, counted from 0, increasing within a row.
        values: float32, finite.
    """

    lines: NDArray[Any]
    labels: NDArray[Any]
    indptr: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]


class MalformedRow(DataError):
    """A line that cannot be read; ``line`` is its number within the block, from 0, and the message leaves it out."""

    def __init__(self, message: str, *, line: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


class DataFormat(Protocol):
    """Built as ``factory(options)``. Blocks are independent, so that several processes can parse one file."""

    @property
    def layout(self) -> Literal["auto", "dense", "sparse"]:
        """How rows are to be kept; ``auto``: dense where at least half of the cells are there."""

    @property
    def features(self) -> int | None:
        """Number of columns; None: as many as the largest index found."""

    def blocks(self, path: Path) -> Iterator[Block]:
        """The file in order, cut in the same places whenever it is read.

        Raises:
            DataError: missing, unreadable or damaged.
        """

    def parse(self, data: bytes) -> Rows:
        """Parse one block.

        Raises:
            MalformedRow: the first line that is malformed, has a NaN or infinite number, or more than ``features``
                columns.
        """
