"""The protocol of Redis, version 2: commands are gathered for sending, values are received where they stay.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.blocks import Blocks
from lambdaml_core.storage.layers import size_of

_BUFFER_BYTES = 16 << 10  # a value's first bytes come with what is before it, and are copied
_LARGE_BYTES = 8 << 10  # from here on a value gets memory of its own
_COPIED_BYTES = 4096  # smaller parts are joined: a system call has few

Reply: TypeAlias = "bytes | memoryview | int | list[Reply] | Refusal | None"


class Refusal:
    """An answer that is an error: the server's word for it, such as ``OOM``, and the line."""

    def __init__(self, line: bytes) -> None:
        self.line = line.decode("utf-8", "replace")
        self.word = self.line.partition(" ")[0]


class ProtocolError(Exception):
    """What came is no answer of Redis."""


class Commands:
    """A gather list of commands, to be sent at once. Large parts are views: nothing of them is copied.

    Attributes:
        count: of commands so far, each of which has one answer.
    """

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[Buffer] = []
        self._head = bytearray()

    def add(self, *words: bytes | Parts) -> None:
        """A command of words, of which some may be values in parts."""
        self.count += 1
        self._head += b"*%d\r\n" % len(words)
        for word in words:
            if isinstance(word, bytes):
                self._head += b"$%d\r\n%b\r\n" % (len(word), word)
            else:
                self._add_value(word)

    def gathered(self) -> list[Buffer]:
        """All of it."""
        self._flush()
        return self._parts

    def _add_value(self, parts: Parts) -> None:
        self._head += b"$%d\r\n" % size_of(parts)
        for part in parts:
            view = memoryview(part)
            if view.nbytes >= _COPIED_BYTES:
                self._flush()
                self._parts.append(view.cast("B"))
            elif view.nbytes:
                self._head += view.cast("B")
        self._head += b"\r\n"

    def _flush(self) -> None:
        if self._head:
            self._parts.append(self._head)
            self._head = bytearray()


class Replies:
    """Reads answers.

    Args:
        receive: fills the beginning of a view with what has come, and returns how many bytes; 0 where the connection
            has ended. With True it may wait until all of the view is filled.
    """

    def __init__(self, receive: Callable[[memoryview, bool], int], blocks: Blocks) -> None:
        self._receive, self._blocks = receive, blocks
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # what has come and has not been read

    def read(self) -> Reply:
        """The next answer.

        Raises:
            EOFError: the connection has ended.
            ProtocolError: what came is no answer.
            OSError: the connection has failed.
        """
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refusal(rest)
        if kind not in (b":", b"$", b"*"):
            raise ProtocolError(f"{line[:40]!r} is no answer")
        number = _number(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        return self._bytes(number) if kind == b"$" else [self.read() for _ in range(number)]

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at, self._end)) < 0:
            self._fill()
        line = bytes(self._view[self._at : end])
        self._at = end + 2
        return line

    def _bytes(self, size: int) -> bytes | memoryview:
        if size >= _LARGE_BYTES:
            return self._large(size)
        while self._end - self._at < size + 2:
            self._fill()
        data = bytes(self._view[self._at : self._at + size])
        self._at += size + 2
        return data

    def _large(self, size: int) -> memoryview:
        room = self._blocks.take(size + 2)
        have = min(self._end - self._at, size + 2)
        room[:have] = self._view[self._at : self._at + have]
        self._at += have
        while have < size + 2:
            have += self._some(room[have:], whole=True)
        return room[:size]

    def _fill(self) -> None:
        """Receive more into the buffer; what has been read makes room."""
        if self._at:
            rest = self._buffer[self._at : self._end]
            self._buffer[: len(rest)] = rest
            self._at, self._end = 0, len(rest)
        if self._end == len(self._buffer):
            raise ProtocolError("a line has no end")
        self._end += self._some(self._view[self._end :], whole=False)

    def _some(self, room: memoryview, *, whole: bool) -> int:
        received = self._receive(room, whole)
        if not received:
            raise EOFError("the connection has ended")
        return received


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError as e:
        raise ProtocolError(f"{text[:40]!r} is no number") from e
