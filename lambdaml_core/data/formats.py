"""The contracts of data formats: how a file becomes rows, or tables, a bounded block at a time.

A *row format* (LIBSVM, NPY, NPZ) has features ready for a model. A *table format* (CSV, Parquet, frames) has columns
with names, of numbers and of words; ``preprocess.py`` turns them into features and keeps with the model how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.errors import DataError


class Block(NamedTuple):
    """Consecutive lines of a file.

    Attributes:
        first: number of its first line in the file, from 0. For a format without lines: of its first row.
        data: some MiB that end at the end of a row, in whatever form the format's ``parse`` takes.
        read: bytes of the file that have been read so far, for showing progress.
    """

    first: int
    data: Any
    read: int


class Rows(NamedTuple):
    """A block of parsed rows.

    Attributes:
        lines: (n,) int64, the number of each row's line within the block, from 0; increasing. A row is known by its
            line in the file: that is what the shuffle goes by.
        labels: (n,) as they stand in the file: float64, or an array of ``str`` (dtype object).
        indptr: (n + 1,) int64; row i has the entries indptr[i]:indptr[i + 1].
        indices: int32 columns, counted from 0, increasing within a row.
        values: float32, finite.
    """

    lines: NDArray[Any]
    labels: NDArray[Any]
    indptr: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]


class Schema(NamedTuple):
    """The columns of a table, in order. Told from the beginning of a file, and by what options say.

    Attributes:
        numbers: names of the columns of numbers.
        words: names of the columns of words.
        label: which of these has the labels; None where there are none, as in rows to predict on.
    """

    numbers: tuple[str, ...]
    words: tuple[str, ...]
    label: str | None


class Table(NamedTuple):
    """Parsed rows of a table.

    Attributes:
        lines: as in :class:`Rows`.
        columns: by name, those of the schema: (n,) float64 with NaN for what is missing, or (n,) ``str`` (dtype
            object) with None for what is missing.
    """

    lines: NDArray[Any]
    columns: Mapping[str, NDArray[Any]]


class MalformedRow(DataError):
    """A line that cannot be read; ``line`` is its number within the block, from 0, and the message leaves it out."""

    def __init__(self, message: str, *, line: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


class RowFormat(Protocol):
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

    def parse(self, data: Any) -> Rows:
        """Parse one block.

        Raises:
            MalformedRow: the first line that is malformed, has a NaN or infinite number, or more than ``features``
                columns.
        """


@runtime_checkable
class SupportsUnlabelled(Protocol):
    """A row format whose files may be without labels, as rows to predict on are."""

    def unlabelled(self, path: Path, features: int) -> Iterator[Block]:
        """As ``blocks``, of rows that may be without labels: then those are NaN.

        Args:
            features: how many columns a row has besides its label: what tells whether it has one.
        """


class TableFormat(Protocol):
    """Built as ``factory(options)``, options a :class:`lambdaml_core.builtin.TableOptions`; else as a row format."""

    @property
    def options(self) -> TableOptions:
        """What was given: which columns there are, and what becomes of them."""

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        """The columns of a file.

        Args:
            labelled: whether a column of labels must be there; rows to predict on may do without. Their columns of
                other things than numbers and words may be given as words.

        Raises:
            DataError: the file is missing or unreadable, an option names a column that is not there, or a column that
                is neither dropped nor listed in ``categorical`` has neither numbers nor words.
            OptionError: the options contradict each other.
            NotSupported: a library that reads the format is not installed.
        """

    def blocks(self, path: Path) -> Iterator[Block]:
        """As those of a row format."""

    def parse(self, data: Any, schema: Schema) -> Table:
        """Parse one block.

        Raises:
            MalformedRow: the first line that has other cells than columns, or a word or an infinite number in a
                column of numbers; a column of the schema is not there.
        """


DataFormat: TypeAlias = RowFormat | TableFormat


def is_table(reader: DataFormat) -> TypeGuard[TableFormat]:
    """Whether a format gives tables."""
    return hasattr(reader, "schema")
