"""From the columns of a table to features: numbers are scaled, categories one-hot or hashed.

A table becomes *cells* first: one float64 for each row and column, numbers as they are and words as codes, NaN for what
is missing. Cells are what a partition keeps between its passes. Features are made of cells by the same code when a
partition is written and when a saved model predicts, so that equal rows give equal bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from lambdaml_core.data.formats import Schema, Table
from lambdaml_core.data.shards import Layout
from lambdaml_core.data.stored import check_fields
from lambdaml_core.errors import DataError

Coder: TypeAlias = dict[str | None, float]
"""Looks up the code of a word; None and words without a code give NaN."""

_MOST_REMEMBERED = 1 << 16


class Vocabulary(Coder):
    """Numbers words as they come: 0, 1, 2 ..."""

    def __init__(self) -> None:
        super().__init__({None: math.nan})

    def __missing__(self, word: str) -> float:
        self[word] = code = float(len(self) - 1)
        return code

    @property
    def words(self) -> list[str]:
        """The words in the order of their codes."""
        return [word for word in self if word is not None]


class Categories(Coder):
    """The place of a word among known ones."""

    def __init__(self, words: Iterable[str]) -> None:
        super().__init__({word: float(code) for code, word in enumerate(words)})

    def __missing__(self, word: str | None) -> float:
        return math.nan


class Buckets(Coder):
    """The bucket of a word: XXH3 with 64 bits of ``column=word``, modulo the number of buckets."""

    def __init__(self, column: str, count: int) -> None:
        super().__init__({None: math.nan})
        self._column, self._count = column, count

    def __missing__(self, word: str) -> float:
        text = f"{self._column}={word}".encode("utf-8", "surrogatepass")
        bucket = float(xxhash.xxh3_64_intdigest(text) % self._count)
        if len(self) < _MOST_REMEMBERED:
            self[word] = bucket
        return bucket


def to_cells(table: Table, numbers: Sequence[str], coders: Mapping[str, Coder]) -> NDArray[np.float64]:
    """The cells of a table, (n, columns): those of numbers first, then the codes of words."""
    n = len(table.lines)
    cells = np.empty((n, len(numbers) + len(coders)))
    for i, name in enumerate(numbers):
        cells[:, i] = table.columns[name]
    for i, (name, coder) in enumerate(coders.items(), len(numbers)):
        cells[:, i] = np.fromiter(map(coder.__getitem__, table.columns[name].tolist()), np.float64, n)
    return cells


def feature_columns(schema: Schema) -> tuple[list[str], list[str]]:
    """The columns of numbers, and of words, that are no labels."""
    numbers, words = ([name for name in names if name != schema.label] for names in (schema.numbers, schema.words))
    return numbers, words


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What was done to raw rows, fitted on the rows to train on alone. It is kept with the model.

    The features are the numbers, in order, and then a feature for each category, 1 in the rows that have it, or, where
    ``hash_features`` is given, that many buckets, each the count of a row's words in it. A missing number is taken as
    the mean; a missing word, or one that no row to train on had, gives no feature.

    Attributes:
        numbers, means, deviations: columns of numbers, and what to scale them by.
        standard: whether numbers are scaled, to (number - mean) / deviation.
        words, categories: columns of words, and the known words of each in order; none where they are hashed.
        hash_features: number of buckets; None = one-hot.
        layout: of the features: ``dense`` or ``csr``.
        label: column that had the labels; None where they came apart.
        label_words: whether that is a column of words.
        reading: by the name of a format, those of its options that say how a file is read and not what becomes of its
            columns, such as a delimiter: files that come later are read alike.
    """

    numbers: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    standard: bool
    words: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    hash_features: int | None
    layout: Layout
    label: str | None
    label_words: bool
    reading: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def features(self) -> int:
        """Columns of what :meth:`transform` gives."""
        return len(self.numbers) + (self.hash_features or 0) + sum(map(len, self.categories))

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each feature: ``column``, ``column=word``, or ``hash=bucket``."""
        hashed = (f"hash={bucket}" for bucket in range(self.hash_features or 0))
        pairs = zip(self.words, self.categories, strict=False)
        return (*self.numbers, *hashed, *(f"{column}={word}" for column, words in pairs for word in words))

    def schema(self, found: Schema, *, where: str, labelled: bool = False) -> Schema:
        """The columns to read of a table that has these; its label stays one, if it is no feature.

        Args:
            where: what the table is called in messages.
            labelled: whether there must be a label.

        Raises:
            DataError: a column that is needed is not there.
        """
        missing = [name for name in (*self.numbers, *self.words) if name not in (*found.numbers, *found.words)]
        if missing:
            raise DataError(
                f"{where} has no column {missing[0]}, which the model needs",
                hint=f"missing are: {', '.join(missing)}" if missing[1:] else "give data like the training data",
            )
        if found.label is None or found.label in (*self.numbers, *self.words):
            if labelled:
                raise DataError(
                    f"{where} has no column of labels beside those that the model learns from",
                    hint="name it by the option label",
                )
            return Schema(self.numbers, self.words, None)
        label = (found.label,)
        if self.label_words if found.label == self.label else found.label in found.words:
            return Schema(self.numbers, self.words + label, found.label)
        return Schema(self.numbers + label, self.words, found.label)

    @cached_property
    def coders(self) -> dict[str, Coder]:
        """What looks up the words of each column of words; made once, for all blocks of a file."""
        if self.hash_features is not None:
            return {column: Buckets(column, self.hash_features) for column in self.words}
        pairs = zip(self.words, self.categories, strict=True)
        return {column: Categories(words) for column, words in pairs}

    def transform(self, table: Table) -> Any:
        """Features of a table.

        Returns:
            (n, features) float32, C-contiguous or a ``csr_matrix`` with sorted int32 indices.

        Raises:
            DataError: a scaled number is too large for float32.
        """
        return self.features_of(to_cells(table, self.numbers, self.coders))

    def features_of(self, cells: NDArray[np.float64]) -> Any:
        """As :meth:`transform`, from the cells of a table, with codes by :attr:`coders`."""
        numbers = self._scaled(cells[:, : len(self.numbers)])
        if self.layout == "dense" and not self.words:
            return numbers
        from scipy.sparse import csr_matrix

        count, codes = len(self.numbers), cells[:, len(self.numbers) :]
        known = ~np.isnan(codes)
        columns = np.empty(cells.shape, np.int32)
        columns[:, :count] = np.arange(count)
        columns[:, count:] = np.where(known, codes, 0) + self._starts
        values = np.concatenate([numbers, known.astype(np.float32)], axis=1)
        there = values != 0
        ends = np.zeros(len(cells) + 1, np.int64)
        np.cumsum(np.count_nonzero(there, axis=1), out=ends[1:])
        rows: Any = csr_matrix((values[there], columns[there], ends), shape=(len(cells), self.features))
        rows.sum_duplicates()  # words of a row that fell into one bucket; it also sorts
        return rows.toarray() if self.layout == "dense" else rows

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The feature of each word column's code 0."""
        if self.hash_features is not None:
            return np.full(len(self.words), len(self.numbers))
        lengths = [len(self.numbers), *map(len, self.categories)]
        return np.cumsum(lengths)[:-1]

    def _scaled(self, cells: NDArray[np.float64]) -> NDArray[np.float32]:
        means = np.array(self.means, np.float64)
        scaled = np.where(np.isnan(cells), means, cells)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.standard:
                scaled = (scaled - means) / np.array(self.deviations, np.float64)
            numbers = np.ascontiguousarray(scaled, np.float32)
        bad = ~np.isfinite(numbers)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataError(
                f"the column {self.numbers[column]} has the number {cells[row, column]:g}, which is too large",
                hint="drop the row or the column, or give the numbers in a larger unit",
            )
        return numbers

    def to_json(self) -> dict[str, Any]:
        """JSON; numbers come back bit for bit."""
        fields = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()} | {
            "categories": [list(words) for words in self.categories]
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: it is something else.
        """
        try:
            check_fields(cls, fields)
            tuples = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
            made = cls(**{**fields, **tuples, "categories": tuple(map(tuple, fields["categories"]))})
            made._check()
        except ValueError as e:
            raise DataError(f"this is not the preprocessing of a model: {e}", hint="train and save it again") from e
        return made

    def _check(self) -> None:
        """ValueError, where the fields do not fit together."""
        if len(self.means) != len(self.numbers) or len(self.deviations) != len(self.numbers):
            raise ValueError("as many means and deviations as columns of numbers are needed")
        if len(self.categories) != (0 if self.hash_features is not None else len(self.words)):
            raise ValueError("as many lists of categories as columns of words are needed, and none of hashed ones")
        if any(len(set(names)) != len(names) for names in (*self.categories, (*self.numbers, *self.words))):
            raise ValueError("a name comes twice")
        if min(self.deviations, default=1.0) <= 0:
            raise ValueError("a deviation is not above 0")
        if self.hash_features is not None and self.hash_features < 1:
            raise ValueError(f"hash_features is {self.hash_features}")
