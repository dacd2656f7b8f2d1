"""Labels of any kind: numbers or words as they stand in the data, class numbers or float32 numbers in shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.formats import MalformedRow
from lambdaml_core.data.preprocess import Vocabulary
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError
from lambdaml_core.specs import Target

MOST_CLASSES = 10_000
EXACT_BELOW = 2.0**53  # float64 has all integers up to here; beyond, two labels could become one
AS_WORDS = "give such labels as words, or number the classes from 0"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class LabelReader:
    """Turns labels into float64 as they are read, words into codes, and keeps which there are.

    Where the target is ``none`` all labels are 0, whatever they are.

    Args:
        known: the only labels allowed; None = any.
    """

    def __init__(self, target: Target, known: Sequence[Label] | None) -> None:
        self._target = target
        self._known = known
        self._vocabulary = Vocabulary()
        self.numbers: set[float] = set()
        if known is not None:
            for label in known:
                if isinstance(label, str):
                    self._vocabulary[label]
                else:
                    self.numbers.add(float(label))
        self._allowed = np.array(sorted(self.numbers))

    @property
    def words(self) -> list[str]:
        """Labels that are words, by their codes."""
        return self._vocabulary.words

    def full(self) -> bool:
        """Whether there are more labels than there can be classes."""
        return len(self.numbers) + len(self._vocabulary) - 1 > MOST_CLASSES

    def read(self, labels: NDArray[Any], lines: NDArray[Any]) -> NDArray[np.float64]:
        """Labels of rows.

        Raises:
            MalformedRow: a label is missing, infinite or not among those allowed, or cannot be a number to learn.
        """
        if self._target == "none":
            return np.zeros(len(labels))
        if labels.dtype.kind in "OU":
            return self._read_words(labels.tolist(), lines)
        _refuse(~np.isfinite(labels), labels, lines, "which is no label", "drop such rows")
        if self._target == "number":
            _refuse(np.abs(labels) > _FLOAT32_MAX, labels, lines, "which is too large", "scale the column")
            return labels.astype(np.float64, copy=False)
        _refuse(np.abs(labels) >= EXACT_BELOW, labels, lines, "which is too large for a class", AS_WORDS)
        if self._known is not None:
            _refuse(
                ~np.isin(labels, self._allowed),
                labels,
                lines,
                "which is not among those known",
                said_known(self._known),
            )
        else:
            self.numbers.update(np.unique(labels)[: MOST_CLASSES + 1].tolist())
        return labels.astype(np.float64, copy=False)

    def _read_words(self, labels: list[str | None], lines: NDArray[Any]) -> NDArray[np.float64]:
        words: Any = np.array(labels, object)
        if self._target == "number":
            _refuse(np.ones(len(words), bool), words, lines, "which is a word", "to learn words, set target = class")
        _refuse(np.array([w is None for w in labels], bool), words, lines, "which is no label", "drop such rows")
        if self._known is not None:
            strange = np.array([w not in self._vocabulary for w in labels], bool)
            _refuse(strange, words, lines, "which is not among those known", said_known(self._known))
        return np.fromiter(map(self._vocabulary.__getitem__, labels), np.float64, len(labels))


def said_known(known: Sequence[Label]) -> str:
    """A hint that lists the labels that are known, or the first of them."""
    return f"known are: {', '.join(map(str, known[:8]))}" + (", ..." if len(known) > 8 else "")


def _refuse(bad: NDArray[np.bool_], labels: NDArray[Any], lines: NDArray[Any], why: str, hint: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        label = labels.tolist()[row]
        said = "missing" if label is None or label != label else f"{as_label(label)!r}, {why}"
        raise MalformedRow(f"the label is {said}", line=int(lines[row]), hint=hint)


def as_label(value: Label) -> Label:
    """A label as its user has it: an integer that came as a float is one."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_BELOW else value


def merge_labels(numbers: set[float], words: set[str]) -> tuple[Label, ...]:
    """All labels that rows have, in order.

    Raises:
        DataError: fewer than two, more than there can be, or both numbers and words.
    """
    if numbers and words:
        raise DataError("some labels are numbers and some are words", hint="give all files the same kind of labels")
    labels: tuple[Label, ...] = tuple(map(as_label, sorted(numbers))) or tuple(sorted(words))
    check_classes(labels)
    return labels


def check_classes(labels: Sequence[Label]) -> None:
    """Refuse labels that make no classes to tell apart.

    Raises:
        DataError: fewer than two labels, or more than 10,000.
    """
    if len(labels) < 2:
        raise DataError(f"all rows have the label {labels[0]}", hint="a classifier needs rows of two classes")
    if len(labels) > MOST_CLASSES:
        raise DataError(
            f"there are more than {MOST_CLASSES:,} different labels",
            hint="numbers to come near to are for another model, such as least_squares; partition has --target number",
        )


def class_numbers(labels: Sequence[Label], words: Sequence[str]) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """What turns a process's labels into y.

    Args:
        labels: of the classes, in order; none = the numbers themselves are what is to be learned.
        words: the process's own, by their codes.
    """
    if not labels:
        return lambda read: read.astype(np.float32)
    if isinstance(labels[0], str):
        place = {label: number for number, label in enumerate(labels)}
        numbers = np.array([place[word] for word in words], np.float32)
        return lambda read: numbers[read.astype(np.int64)]
    values = np.array(labels, np.float64)
    order = np.argsort(values)  # those of another's model come as they are
    return lambda read: order[np.searchsorted(values, read, sorter=order)].astype(np.float32)
