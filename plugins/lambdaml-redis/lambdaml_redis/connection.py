"""Connections: redis-py connects, authenticates and encrypts; values then move past it, and nothing is copied."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lambdaml_core.errors import StorageError
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.blocks import Blocks
from lambdaml_redis.address import Address
from lambdaml_redis.errors import of_connecting
from lambdaml_redis.options import RedisOptions
from lambdaml_redis.resp import Commands, Replies, Reply

_MOST_PARTS = 1000  # of one system call; Linux takes 1,024
_SEND_BUFFER_BYTES = 512 << 10  # of a unix socket, 208 KiB by default; more leaves the caches. TCP chooses its own
_FRESH_S = 1.0  # a connection that was used before is looked at first


class Connection:
    """One connection; one request at a time.

    Raises:
        StorageError: the server could not be reached, or refuses.
    """

    def __init__(self, address: Address, options: RedisOptions, blocks: Blocks) -> None:
        self._redis = connect(address, options)
        self._socket: socket.socket = self._redis._sock
        self._tls = isinstance(self._socket, ssl.SSLSocket)
        if self._tls:
            self._socket.settimeout(options.timeout_s)
        else:
            _tune(self._socket, options.timeout_s)
        self._replies = Replies(self._receive, blocks)
        self._used = time.monotonic()

    def ask(self, commands: Commands) -> list[Reply]:
        """Send these commands and read the answer to each.

        Raises:
            OSError, EOFError, ProtocolError: it has failed, and must be closed.
        """
        parts = commands.gathered()
        if self._tls:
            for part in parts:
                self._socket.sendall(part)
        else:
            self._send(parts)
        answers = [self._replies.read() for _ in range(commands.count)]
        self._used = time.monotonic()
        return answers

    def alive(self) -> bool:
        """Whether it is worth trying: a server that was restarted has closed it."""
        if self._tls or time.monotonic() - self._used < _FRESH_S:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # closed, or it says what nobody has asked for

    def close(self) -> None:
        """Idempotent."""
        self._redis.disconnect()

    def _send(self, parts: Sequence[Buffer]) -> None:
        views = [memoryview(part) for part in parts]
        at = 0
        while at < len(views):
            sent = self._socket.sendmsg(views[at : at + _MOST_PARTS])
            while at < len(views) and sent >= len(views[at]):
                sent -= len(views[at])
                at += 1
            if sent:
                views[at] = views[at][sent:]

    def _receive(self, room: memoryview, whole: bool) -> int:
        # all of it in one system call: whoever is woken for each part of a value has to be scheduled each time
        flags = socket.MSG_WAITALL if whole and not self._tls else 0
        return self._socket.recv_into(room, 0, flags)


def connect(address: Address, options: RedisOptions) -> Any:
    """A connection of redis-py, authenticated, of protocol version 2, and tried once only.

    Raises:
        StorageError: the server could not be reached, or refuses.
    """
    import redis  # takes 0.1 s, which is for those who connect
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings: dict[str, Any] = {
        "db": address.db,
        "protocol": 2,
        "socket_timeout": options.connect_timeout_s,
        "socket_connect_timeout": options.connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        **address.login,
    }
    kind: Any = redis.SSLConnection if address.tls else redis.Connection
    if address.socket:
        kind = redis.UnixDomainSocketConnection
        settings |= {"path": address.socket}
    else:
        settings |= {"host": address.host, "port": address.port}
    if address.tls:
        _check_files(options)
        settings |= {"ssl_ca_certs": options.tls_ca or None}
        settings |= {"ssl_certfile": options.tls_cert or None, "ssl_keyfile": options.tls_key or None}
    connection = kind(**settings)
    try:
        connection.connect()
    except (redis.RedisError, OSError, ValueError) as e:
        raise of_connecting(address.shown, e) from e
    return connection


def _check_files(options: RedisOptions) -> None:
    """Raises StorageError: a file that an option names is not there, which would look as if the server were not."""
    for name in ("tls_ca", "tls_cert", "tls_key"):
        path = getattr(options, name)
        if path and not Path(path).is_file():
            raise StorageError(f"there is no file {path}", hint=f"mend the option {name} of the URL")


def _tune(connected: socket.socket, timeout_s: float) -> None:
    """Let the kernel mind the time, which saves a system call each, and hold more on its way."""
    connected.settimeout(None)
    limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if connected.family == socket.AF_UNIX:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
