"""LIBSVM text, plain or gzip: ``label index:value index:value ...``, indices from 1 and increasing.

Blocks are parsed as a whole by numpy; a block with anything unusual in it is parsed line by line, which is slower and
knows how to say what is wrong.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np

from lambdaml_core.data.formats import Block, MalformedRow, Rows
from lambdaml_core.errors import DataError
from lambdaml_core.plugin import LibsvmOptions

_BLOCK_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 64 << 20
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INDEX = re.compile(rb"\d{1,10}")
_LARGEST_INDEX = 2**31 - 1
_FLOAT32_MAX, _FLOAT64_MAX = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
_NO_NUMBER = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Libsvm:
    """Reads LIBSVM text; implements :class:`lambdaml_core.data.formats.DataFormat`.

    Labels are numbers; comments (``#`` to the end of the line) and empty lines are skipped; a line ends with LF or
    CRLF, the last one need not. Query ids (``qid:``) are refused. Values are the nearest float64, rounded to float32.
    """

    def __init__(self, options: LibsvmOptions) -> None:
        self.layout = cast(Literal["auto", "dense", "sparse"], options.layout)
        self.features = options.features

    def blocks(self, path: Path) -> Iterator[Block]:
        """As the contract says; gzip is known by its first bytes."""
        try:
            with path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                yield from _blocks(path, raw, cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise DataError(f"{path} is damaged: {e}", hint="copy or compress it again") from e
        except OSError as e:
            raise DataError(f"{path} cannot be read: {e.strerror or e}", hint="check the path and its mode") from e

    def parse(self, data: bytes) -> Rows:
        """As the contract says."""
        return parse_lines(data, self.features or _LARGEST_INDEX)


def _blocks(path: Path, raw: IO[bytes], text: IO[bytes]) -> Iterator[Block]:
    first, rest = 0, b""
    while chunk := text.read(_BLOCK_BYTES):
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield Block(first, data[:end], raw.tell())
            first += data.count(b"\n", 0, end)
        elif len(rest) > _LONGEST_LINE_BYTES:
            raise DataError(
                f"{path}, line {first + 1}: longer than {_LONGEST_LINE_BYTES >> 20} MiB", hint="is it LIBSVM text?"
            )
    if rest:
        yield Block(first, rest + b"\n", raw.tell())


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
                raise MalformedRow(_not_an_entry(token), line=number, hint="write it as index:value")
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


def _not_an_entry(token: bytes) -> str:
    if token.startswith(b"qid:"):
        return "query ids (qid:) are for ranking, which is not supported"
    return f"{_shown(token)} is not index:value"


def _bad_index(index: int, last: int, features: int, line: int) -> MalformedRow:
    if index < 1:
        return MalformedRow("index 0; indices count from 1", line=line)
    if index > features:
        return MalformedRow(f"index {index} is larger than {features}", line=line, hint="give more features")
    return MalformedRow(f"index {index} after {last}; indices must increase", line=line, hint="sort each line")
