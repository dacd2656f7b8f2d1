"""One connection to a Memcached server: its text protocol, many requests at a time, bytes in and out uncopied."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.blocks import Blocks
from lambdaml_core.storage.layers import size_of

_GATHER = 1024  # parts that one sendmsg takes
_BUFFER_BYTES = 16 << 10  # replies and small values; of a large value at most so much is copied
_POOLED_BYTES = 128 << 10  # the allocator reuses memory of smaller values by itself
_KEYS_BYTES = 16 << 10  # of a request that is answered with values: it must be on its way before these come
_AT_ONCE = 500  # requests of short answers: these must fit into what a connection holds
_LINE = b"\r\n"
_VALUE = re.compile(rb"VALUE (\S+) \d+ (\d+)")


class Refused(Exception):
    """What the server said instead of doing it."""


class Connection:
    """Used by one thread at a time; after any error it can only be closed, since answers may still be on their way.

    Every request waits for its answer (never ``noreply``, which loses a value that is refused without a word).

    Args:
        address: host and port, or the path of a unix socket.
        timeout_s: how long the server may be silent.
        blocks: where large values are received.
        tls: how to encrypt; None = not.

    Raises:
        OSError: it cannot be reached, is silent for too long, or has gone.
        Refused: it does not do what it is asked.
    """

    def __init__(
        self, address: tuple[str, int] | str, timeout_s: float, blocks: Blocks, tls: ssl.SSLContext | None = None
    ) -> None:
        self._blocks = blocks
        self._encrypted = tls is not None
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._lo = self._hi = 0  # what is in the buffer and not yet read
        connected = _connect(address, timeout_s)
        try:
            self._socket = connected if tls is None else tls.wrap_socket(connected, server_hostname=address[0])
            if tls is None:
                _leave_time_to_kernel(connected, timeout_s)
        except BaseException:
            connected.close()
            raise

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def log_in(self, user: str, password: str) -> None:
        """Say who this is, as a server started with ``-Y`` wants it: by a first ``set``.

        Raises:
            Refused: wrong, or the server asks nobody: it would take the password for a value.
        """
        self._send([b"get lambdaml\r\n"])
        if not self._line().startswith(b"CLIENT_ERROR"):
            raise Refused("asks for no user and password")
        login = f"{user} {password}".encode()
        self._send([b"set auth 0 0 %d\r\n" % len(login), login, _LINE])
        self._expect(b"STORED")

    def store(self, command: str, items: Mapping[str, Parts], time: int) -> list[str]:
        """Store by ``set`` or ``add``. Returns the keys that were stored; the others existed.

        Args:
            time: when the values may go, as the protocol has it.
        """
        stored = []
        for batch in _batches(list(items), _AT_ONCE):
            parts: list[Buffer] = []
            for key in batch:
                parts += [b"%s %s 0 %d %d\r\n" % (command.encode(), key.encode(), time, size_of(items[key]))]
                parts += [*items[key], _LINE]
            self._send(parts)
            answers = [self._line() for _ in batch]
            for key, answer in zip(batch, answers, strict=True):
                if answer == b"STORED":
                    stored.append(key)
                elif answer != b"NOT_STORED":
                    raise _refusal(answer)
        return stored

    def fetch(self, keys: Sequence[str]) -> dict[str, Buffer]:
        """The values of those keys that exist."""
        found: dict[str, Buffer] = {}
        for batch in _short_enough(keys):
            self._send([b"get %s\r\n" % " ".join(batch).encode()])
            while (line := self._line()) != b"END":
                header = _VALUE.fullmatch(line)
                if header is None:
                    raise _refusal(line)
                found[header[1].decode()] = self._value(int(header[2]))
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete those of the keys that exist."""
        for batch in _batches(keys, _AT_ONCE):
            self._send([b"".join([b"delete %s\r\n" % key.encode() for key in batch])])
            for _ in batch:
                self._expect(b"DELETED", b"NOT_FOUND")

    def stats(self, what: str = "") -> dict[str, str]:
        """The server's figures, or those of a kind."""
        self._send([b"stats %s\r\n" % what.encode() if what else b"stats\r\n"])
        figures = {}
        while (line := self._line()) != b"END":
            word, _, figure = line.decode(errors="replace").partition(" ")
            if word != "STAT":
                raise _refusal(line)
            name, _, value = figure.partition(" ")
            figures[name] = value
        return figures

    def _expect(self, *answers: bytes) -> None:
        line = self._line()
        if line not in answers:
            raise _refusal(line)

    # --- bytes

    def _send(self, parts: Parts) -> None:
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        if self._encrypted:
            for view in _joined(views):
                self._socket.sendall(view)
            return
        at = 0
        while at < len(views):
            sent = self._socket.sendmsg(views[at : at + _GATHER])
            while at < len(views) and sent >= views[at].nbytes:
                sent -= views[at].nbytes
                at += 1
            if sent:
                views[at] = views[at][sent:]

    def _line(self) -> bytes:
        """The next line, without its end."""
        while True:
            there = bytes(self._buffer[self._lo : self._hi])
            line, end, _ = there.partition(_LINE)
            if end:
                self._lo += len(line) + len(end)
                return line
            if len(there) == _BUFFER_BYTES:
                raise _refusal(there)
            self._buffer[: len(there)] = there
            self._lo, self._hi = 0, len(there)
            self._hi += self._receive(self._buffer[self._hi :])

    def _value(self, size: int) -> Buffer:
        """The next ``size`` bytes, after which a line ends."""
        value = self._blocks.take(size) if size >= _POOLED_BYTES else memoryview(bytearray(size))
        at = min(size, self._hi - self._lo)
        value[:at] = self._buffer[self._lo : self._lo + at]
        self._lo += at
        while at < size:
            at += self._receive(value[at:], whole=True)
        self._expect(b"")
        return value

    def _receive(self, room: memoryview, *, whole: bool = False) -> int:
        # all of it in one system call: whoever is woken for each part of a value has to be scheduled each time
        received = self._socket.recv_into(room, 0, socket.MSG_WAITALL if whole and not self._encrypted else 0)
        if not received:
            raise ConnectionResetError("the server has closed the connection")
        return received


def _connect(address: tuple[str, int] | str, timeout_s: float) -> socket.socket:
    if not isinstance(address, str):
        connected = socket.create_connection(address, timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout_s)
        connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


def _leave_time_to_kernel(connected: socket.socket, timeout_s: float) -> None:
    """Python would ask before each call whether there is something yet; when time is up, it is EAGAIN."""
    connected.settimeout(None)
    limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _refusal(line: bytes) -> Refused:
    return Refused(line[:200].decode(errors="replace"))


def _batches(keys: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    return (keys[first : first + most] for first in range(0, len(keys), most))


def _short_enough(keys: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for key in keys:
        if length + len(key) > _KEYS_BYTES:
            yield batch
            batch, length = [], 0
        batch.append(key)
        length += len(key) + 1
    if batch:
        yield batch


def _joined(views: Sequence[memoryview]) -> Iterator[Buffer]:
    """The same bytes, short neighbours together: each that is sent by itself becomes a record of TLS."""
    short: list[memoryview] = []
    for view in views:
        if view.nbytes < _BUFFER_BYTES:
            short.append(view)
            continue
        if short:
            yield b"".join(short)
            short = []
        yield view
    if short:
        yield b"".join(short)
