"""LIBSVM text, plain or gzip: ``label index:value index:value ...``, indices from 1 and increasing.

A block is parsed as a whole by numpy, in some forty passes over short arrays. A block that has anything in it that is
not as it should be is parsed again line by line, which is slow and knows how to say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import LibsvmOptions
from lambdaml_core.data.formats import Block, MalformedRow, Rows
from lambdaml_core.data.text import text_blocks

_WORD_BYTES = 8
_COMMENT = re.compile(rb"#[^\n]*")
_IS_MARK = np.isin(np.arange(256), list(b" \t\n\r\v\f:.+-eE"))
_SIGNS = np.frombuffer(b"+-", np.uint8)
_POWERS_OF_TEN = 10.0 ** np.arange(9)
_NO_ROWS = ((0, np.int64), (0, np.float64), (1, np.int64), (0, np.int32), (0, np.float32))
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INDEX = re.compile(rb"\d{1,10}")
_LARGEST_INDEX = 2**31 - 1
_FLOAT32_MAX, _FLOAT64_MAX = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
_NO_NUMBER = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Libsvm:
    """Reads LIBSVM text; implements :class:`lambdaml_core.data.formats.RowFormat`.

    Labels are numbers; comments (``#`` to the end of the line) and empty lines are skipped; a line ends with LF or
    CRLF, the last one need not. Query ids (``qid:``) are refused. Values are the nearest float64, rounded to float32.
    """

    def __init__(self, options: LibsvmOptions) -> None:
        self.layout = cast(Literal["auto", "dense", "sparse"], options.layout)
        self.features = options.features

    def blocks(self, path: Path) -> Iterator[Block]:
        """As the contract says."""
        return text_blocks(path)

    def parse(self, data: bytes) -> Rows:
        """As the contract says."""
        features = self.features or _LARGEST_INDEX
        rows = parse_block(data, features)
        return parse_lines(data, features) if rows is None else rows


def parse_block(data: bytes, features: int) -> Rows | None:
    """Parse a block at once; None if something in it is not as it should be, or is too rare to be worth a pass.

    Every byte that is no digit is a *mark*, and the digits between two marks are a *run*. Tokens end at the marks that
    are white space; the marks inside a token tell what it is: none in ``12``, one in ``3:1`` and ``-1``, two in
    ``3:0.5``. So a few comparisons of marks check the grammar, and only runs have to be turned into numbers.
    """
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    text = np.frombuffer(bytes(_WORD_BYTES) + data, np.uint8)
    at = np.flatnonzero(text[_WORD_BYTES:] - np.uint8(ord("0")) > 9)
    mark = text[_WORD_BYTES:].take(at)
    if not _IS_MARK.take(mark).all():
        return None
    runs = _Runs(text, at)
    ends = np.flatnonzero(mark <= ord(" "))
    newline = mark.take(ends) == ord("\n")
    line = np.cumsum(newline) - newline
    first = np.empty_like(ends)  # mark where the token starts
    first[:1], first[1:] = 0, ends[:-1] + 1
    token = (first < ends) | (runs.length.take(ends) > 0)
    if not token.all():  # an empty line, or more than one space
        first, ends, line = first[token], ends[token], line[token]
    if not len(ends):
        return Rows(*(np.zeros(n, t) for n, t in _NO_ROWS))
    is_label = np.empty(len(ends), bool)
    is_label[:1], is_label[1:] = True, line[1:] != line[:-1]
    if not np.array_equal(mark.take(first) == ord(":"), ~is_label):
        return None
    numbers = _values(data, runs, mark, first + ~is_label, ends)
    starts = np.flatnonzero(is_label)
    indptr = np.append(starts, len(ends)) - np.arange(len(starts) + 1)
    indices = _indices(runs, first[~is_label], indptr, features)
    if numbers is None or indices is None:
        return None
    with np.errstate(over="ignore"):
        values = numbers[~is_label].astype(np.float32)
    labels = numbers[is_label]
    if not (np.isfinite(values).all() and np.isfinite(labels).all()):
        return None
    return Rows(line[is_label], labels, indptr, indices, values)


class _Runs:
    """The run of digits before each mark.

    Attributes:
        length: digits in it, which may be 0.
        number: what they say, where there are at most eight. They are the last bytes of the 64-bit word that ends at
            the mark; three multiplications make a number of them (Mula, SIMD-ized parsing of decimal digits, 2014).
    """

    def __init__(self, text: NDArray[np.uint8], at: NDArray[np.int64]) -> None:
        self.at = at
        self.length = np.empty_like(at)
        self.length[:1], self.length[1:] = at[:1], at[1:] - at[:-1] - 1
        words: NDArray[np.uint64] = np.ndarray((len(text) - _WORD_BYTES + 1,), "<u8", text.data, 0, (1,))
        digits = words.take(at) ^ np.uint64(0x3030303030303030)
        others = (8 * np.maximum(_WORD_BYTES - self.length, 0)).astype(np.uint64)
        digits = (digits >> others) << others  # a shift by all 64 bits gives 0
        digits = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
        digits = (digits * np.uint64(100) + (digits >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
        digits = (digits * np.uint64(10000) + (digits >> np.uint64(32))) & np.uint64(0x00000000FFFFFFFF)
        self.number = digits.astype(np.int64)


def _values(
    data: bytes, runs: _Runs, mark: NDArray[np.uint8], first: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Numbers that start after the mark before ``first`` and end at the mark ``ends``; None if one is malformed."""
    numbers, length = runs.number.take(ends).astype(np.float64), runs.length.take(ends)
    rest = np.flatnonzero((first < ends) | (length == 0) | (length > _WORD_BYTES))
    if len(rest) == 0:
        return numbers
    start, end = first[rest], ends[rest]
    signed = (runs.length[start] == 0) & np.isin(mark[start], _SIGNS) & (start < end)
    point = start + signed  # where the decimal point is, if there is one
    whole, part = runs.length[point], runs.length[end]
    has_point = (point + 1 == end) & (mark[point] == ord("."))
    short = (whole <= 7) & (part <= 8) & (part > 0) & ((point == end) | has_point)
    # Both are exact in float64, so that the quotient is the float64 nearest to the number as it is written.
    scale = _POWERS_OF_TEN[np.where(has_point, np.minimum(part, 8), 0)]
    decimal = (np.where(has_point, runs.number[point], 0) * scale + runs.number[end]) / scale
    decimal[signed & (mark[start] == ord("-"))] *= -1
    numbers[rest] = decimal
    others = np.flatnonzero(~short)  # exponents, or more digits; with the marks there are, float() takes numbers only
    begin = np.where(start[others] > 0, runs.at[start[others] - 1] + 1, 0).tolist()
    try:
        numbers[rest[others]] = [float(data[i:j]) for i, j in zip(begin, runs.at[end[others]].tolist(), strict=True)]
    except ValueError:
        return None
    return numbers


def _indices(runs: _Runs, at: NDArray[np.int64], indptr: NDArray[np.int64], features: int) -> NDArray[np.int32] | None:
    """Indices from 0; None if one is missing, too large, or not larger than the one before it in its row."""
    if (runs.length.take(at) > _WORD_BYTES).any():
        return None
    numbers = runs.number.take(at)
    before = np.empty_like(numbers)
    before[1:] = numbers[:-1]
    before[indptr[:-1][np.diff(indptr) > 0]] = 0
    if not (numbers > before).all() or numbers.max(initial=0) > features:
        return None
    return (numbers - 1).astype(np.int32)


def parse_lines(data: bytes, features: int) -> Rows:
    """Parse line by line.

    Args:
        features: the largest index allowed.

    Raises:
        MalformedRow: the first line that is not as it should be.
    """
    lines, labels, lengths, indices, values = [], [], [], [], []
    for number, line in enumerate(data.split(b"\n")):
        tokens = line.partition(b"#")[0].split()
        if not tokens:
            continue
        last = 0
        lines.append(number)
        labels.append(_number(tokens[0], "the label", number))
        lengths.append(len(tokens) - 1)
        for token in tokens[1:]:
            index, colon, value = token.partition(b":")
            if not colon or not _INDEX.fullmatch(index):
                raise _bad_entry(token, number)
            if not last < int(index) <= features:
                raise _bad_index(int(index), last, features, number)
            last = int(index)
            indices.append(last - 1)
            values.append(np.float32(_number(value, f"the value of index {last}", number, _FLOAT32_MAX)))
    indptr = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    return Rows(
        np.array(lines, np.int64),
        np.array(labels, np.float64),
        indptr,
        np.array(indices, np.int32),
        np.array(values, np.float32),
    )


def _number(text: bytes, what: str, line: int, largest: float = _FLOAT64_MAX) -> float:
    shown = _shown(text)
    if _NO_NUMBER.fullmatch(text):
        raise MalformedRow(f"{what} is {shown}", line=line, hint="replace or drop such rows")
    if not _NUMBER.fullmatch(text):
        raise MalformedRow(f"{what} is {shown}, which is no number", line=line)
    if abs(number := float(text)) > largest:
        raise MalformedRow(f"{what} is {shown}, which is too large", line=line, hint="scale the column")
    return number


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace")) + ("..." if len(text) > 40 else "")


def _bad_entry(token: bytes, line: int) -> MalformedRow:
    if token.startswith(b"qid:"):
        return MalformedRow(
            "a query id (qid:) belongs to ranking, which is not supported", line=line, hint="remove the qid: entries"
        )
    return MalformedRow(f"{_shown(token)} is not index:value", line=line, hint="indices are whole numbers from 1")


def _bad_index(index: int, last: int, features: int, line: int) -> MalformedRow:
    if index < 1:
        return MalformedRow("index 0; indices count from 1", line=line)
    if index > features:
        return MalformedRow(f"index {index} is larger than {features}", line=line, hint="give more features")
    return MalformedRow(f"index {index} after {last}; indices must increase", line=line, hint="sort each line")
