"""How a preprocessing is found: from the rows to train on, in one sweep over their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import Schema
from lambdaml_core.data.preprocess import Buckets, Categories, Coder, Preprocessing, Vocabulary, feature_columns
from lambdaml_core.data.writer import choose_layout
from lambdaml_core.errors import DataError

Words = Mapping[str, Sequence[str]]
"""The words of each column in the order of their codes; columns whose words are hashed or known are left out."""


def training_coders(words: Sequence[str], options: TableOptions) -> dict[str, Coder]:
    """What looks up words while it is still open which there are."""
    if options.categories == "hash":
        return {column: Buckets(column, options.hash_features) for column in words}
    return {column: Vocabulary() for column in words}


class Moments:
    """Count, mean and squared deviations of columns, block after block (Chan, Golub and LeVeque, 1979).

    Each block is shifted by the first number of the column, so that a constant column has deviation 0 exactly. Equal
    blocks in equal order give equal bits.
    """

    def __init__(self, columns: int) -> None:
        self._count = np.zeros(columns)
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    def add(self, cells: NDArray[np.float64]) -> None:
        """Take (n, columns) numbers; NaN does not count."""
        if not cells.size:
            return
        there = ~np.isnan(cells)
        count = there.sum(axis=0)
        first = np.where(count > 0, cells[there.argmax(axis=0), np.arange(cells.shape[1])], 0)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is seen in the end
            mean = first + np.where(there, cells - first, 0).sum(axis=0) / np.maximum(count, 1)
            squares = np.square(np.where(there, cells - mean, 0)).sum(axis=0)
            ahead = np.where(count > 0, mean - self._mean, 0)
            before, self._count = self._count, self._count + count
            share = count / np.maximum(self._count, 1)
            self._mean += ahead * share
            self._squares += squares + np.square(np.where(before > 0, ahead, 0)) * before * share

    def mean(self) -> NDArray[np.float64]:
        """(columns,); 0 where there was no number."""
        return self._mean

    def deviation(self) -> NDArray[np.float64]:
        """(columns,) of the population; 1 for a constant column."""
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        return np.where(deviation == 0, 1, deviation)


class Fitting:
    """Finds the preprocessing of a table whose cells come block after block.

    Args:
        vocabularies: those by which words were given codes, one for each process that parsed.

    Raises:
        DataError: a column has too many categories.
    """

    def __init__(self, schema: Schema, options: TableOptions, vocabularies: Sequence[Words]) -> None:
        self._schema, self._options, self._vocabularies = schema, options, vocabularies
        self._numbers, self._words = feature_columns(schema)
        self._moments = Moments(len(self._numbers))
        self._seen = [{name: np.zeros(len(words), bool) for name, words in v.items()} for v in vocabularies]
        for name in self._words:
            if len(set().union(*(v.get(name, ()) for v in vocabularies))) > options.most_categories:
                raise DataError(
                    f"the column {name} has more than {options.most_categories:,} categories",
                    hint=f'give categories = "hash", drop = ["{name}"], or a larger most_categories',
                )

    def add(self, cells: NDArray[np.float64], process: int = 0) -> None:
        """Take the next rows to train on."""
        self._moments.add(cells[:, : len(self._numbers)])
        for column, name in enumerate(self._words, len(self._numbers)):
            if name in self._seen[process]:
                codes = cells[:, column]
                self._seen[process][name][codes[~np.isnan(codes)].astype(np.int64)] = True

    def finish(self, rows: int, entries: int) -> Preprocessing:
        """The preprocessing; of all rows, ``entries`` cells are there.

        Raises:
            DataError: no feature is left, or numbers are too large to be scaled.
        """
        hashed = self._options.categories == "hash" and bool(self._words)
        categories = () if hashed else tuple(map(self._known, self._words))
        features = len(self._numbers) + (self._options.hash_features if hashed else sum(map(len, categories)))
        if features == 0:
            raise DataError("the rows to train on have nothing to learn from", hint="check the label and drop options")
        means, deviations = self._moments.mean(), self._moments.deviation()
        for name, fine in zip(self._numbers, np.isfinite(means) & np.isfinite(deviations), strict=True):
            if not fine:
                raise DataError(f"the column {name} has numbers that are too large", hint="give them in a larger unit")
        return Preprocessing(
            numbers=tuple(self._numbers),
            means=tuple(means.tolist()),
            deviations=tuple(deviations.tolist()),
            standard=self._options.scale == "standard",
            words=tuple(self._words),
            categories=categories,
            hash_features=self._options.hash_features if hashed else None,
            layout=choose_layout(self._options.layout, rows, features, entries),
            label=self._schema.label,
            label_words=self._schema.label in self._schema.words,
        )

    def _known(self, name: str) -> tuple[str, ...]:
        pairs = zip(self._vocabularies, self._seen, strict=True)
        return tuple(sorted({w for words, seen in pairs for w, s in zip(words[name], seen[name], strict=True) if s}))


class Recoder:
    """Turns a process's own codes of words into those of a preprocessing; numbers stay as they are."""

    def __init__(self, preprocessing: Preprocessing, vocabulary: Words) -> None:
        self._codes: dict[int, NDArray[np.float64]] = {}
        pairs = zip(preprocessing.words, preprocessing.categories, strict=False)
        for column, (name, known) in enumerate(pairs, len(preprocessing.numbers)):
            if name in vocabulary:
                coder = Categories(known)
                self._codes[column] = np.array([coder[word] for word in vocabulary[name]], np.float64)

    def recode(self, cells: NDArray[np.float64]) -> None:
        """Change the codes in place."""
        for column, codes in self._codes.items():
            there = np.flatnonzero(~np.isnan(cells[:, column]))
            cells[there, column] = codes[cells[there, column].astype(np.int64)]
