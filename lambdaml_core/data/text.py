"""Text files, plain or gzip, cut into blocks at the ends of lines, or of records that may have lines within quotes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from lambdaml_core.data.formats import Block
from lambdaml_core.errors import DataError

_BLOCK_BYTES = 1 << 20
_LONGEST_RECORD_BYTES = 64 << 20


def text_blocks(path: Path, *, quoted: bool = False) -> Iterator[Block]:
    """The file in order; ``data`` are bytes that end with a newline. gzip is known by its first bytes.

    Args:
        quoted: a record goes on over the newlines between two quotation marks, as in CSV.

    Raises:
        DataError: missing, unreadable or damaged, or a record is longer than 64 MiB.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield from _blocks(path, raw, cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw, quoted)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path} is damaged: {e}", hint="copy or compress it again") from e
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror or e}", hint="check the path and its mode") from e


def _blocks(path: Path, raw: IO[bytes], text: IO[bytes], quoted: bool) -> Iterator[Block]:
    first, rest = 0, b""
    while chunk := text.read(_BLOCK_BYTES):
        data = rest + chunk
        end = _end_of_records(data) if quoted else data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield Block(first, data[:end], raw.tell())
            first += data.count(b"\n", 0, end)
        elif len(rest) > _LONGEST_RECORD_BYTES:
            raise DataError(
                f"{path}, line {first + 1}: longer than {_LONGEST_RECORD_BYTES >> 20} MiB",
                hint="is a quotation mark not closed there?" if quoted else "is it a text file?",
            )
    if rest:
        yield Block(first, rest + b"\n", raw.tell())


def _end_of_records(data: bytes) -> int:
    """After the last newline with an even number of quotation marks before it: one within quotes is written twice."""
    end = data.rfind(b"\n") + 1
    marks = data.count(b'"', 0, end)
    while marks % 2:
        before = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1  # newlines after the last mark are within quotes
        marks -= data.count(b'"', before, end)
        end = before
    return end
