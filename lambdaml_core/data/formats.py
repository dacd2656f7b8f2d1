"""The contract of a data format: how a file becomes rows, a bounded block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray


class Rows(NamedTuple):
    """A block of parsed rows.

    Attributes:
        indptr: (n + 1,) int64; row i has the entries indptr[i]:indptr[i + 1].
        indices: int32 columns, counted from 0, increasing within a row.
        values: float32.
        labels: (n,) float64 as they stand in the file.
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]
    labels: NDArray[Any]


class DataFormat(Protocol):
    """Built as ``factory(options)``. Blocks are independent, so that several processes can parse one file."""

    def blocks(self, path: Path) -> Iterator[bytes]:
        """The file in order, in blocks of bounded size (some MiB) that end at the end of a row.

        Raises:
            DataError: missing or unreadable.
        """

    def parse(self, block: bytes) -> Rows:
        """Parse one block.

        Raises:
            DataError: malformed, NaN or infinite; ``line`` of the error is the line's number within the block, from 0.
        """
