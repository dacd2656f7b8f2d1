"""Servers for tests and benchmarks: ``with redis_server() as server: open_storage(server.url)``."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lambdaml_core.testing.servers import Server, free_port, program

_SETTINGS = {"bind": "127.0.0.1", "save": '""', "appendonly": "no", "activerehashing": "no"}
# what was used is used again, and not given back to the system page by page, be it with jemalloc or without
_JEMALLOC = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
_MEMORY = {
    "MALLOC_CONF": _JEMALLOC,
    "JE_MALLOC_CONF": _JEMALLOC,
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
}


@dataclass(frozen=True)
class Tls:
    """Files of a server with encryption: its certificate, its key, and the certificates that clients' are signed by;
    without the last, clients need none."""

    certificate: Path
    key: Path
    clients: Path | None = None


class RedisServer(Server):
    """A server of Redis or Valkey that can be killed and started again; it forgets everything then.

    Attributes:
        url: of a storage there, with user and password.
    """

    def __init__(self, command: list[str | Path], url: str, place: str | int, *, tls: bool) -> None:
        super().__init__(command, self._answers_ping, environment=_MEMORY)
        self.url, self._place, self._tls = url, place, tls

    def _answers_ping(self) -> bool:
        unix = isinstance(self._place, str)
        place: Any = self._place if unix else ("127.0.0.1", self._place)
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
            client.settimeout(5)
            client.connect(place)
            if self._tls:
                return True
            client.sendall(b"PING\r\n")
            return client.recv(100).startswith((b"+PONG", b"-NOAUTH"))


@contextlib.contextmanager
def redis_server(
    *,
    unix: bool = False,
    user: str = "",
    password: str = "",
    rules: str = "~* &* +@all",
    tls: Tls | None = None,
    maxmemory: int | None = None,
    policy: str = "noeviction",
    settings: Mapping[str, str] | None = None,
    binary: str | None = None,
) -> Iterator[RedisServer]:
    """A server on this machine's loopback, with nothing in it, that ends with the block.

    Args:
        unix: it listens at a unix socket, and at no port.
        user, password: who may use it; a password alone is the default user's.
        rules: what ``user`` may do, as ``ACL SETUSER`` has it.
        tls: with encryption.
        maxmemory: bytes of memory; None = no limit.
        policy: what it does when they are used up.
        settings: further lines of its configuration.
        binary: the program; None = ``redis-server``.

    Raises:
        RuntimeError: it is not installed, or does not start.
    """
    binary = binary or program("redis-server", "apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        port, path = 0 if unix else free_port(), f"{folder}/redis.sock"
        lines = {**_SETTINGS, "dir": folder, "port": "0" if tls else str(port)}
        if unix:
            lines |= {"unixsocket": path, "unixsocketperm": "700"}
        if tls is not None:
            lines |= {"tls-port": str(port), "tls-cert-file": str(tls.certificate), "tls-key-file": str(tls.key)}
            lines |= {"tls-auth-clients": "no" if tls.clients is None else "yes"}
            lines |= {"tls-ca-cert-file": str(tls.clients or tls.certificate)}
        if user:
            lines |= {"user": f"{user} on >{password} {rules}\nuser default off"}
        elif password:
            lines |= {"requirepass": password}
        if maxmemory is not None:
            lines |= {"maxmemory": str(maxmemory), "maxmemory-policy": policy}
        lines |= settings or {}
        configuration = Path(folder, "redis.conf")
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        login = f"{quote(user)}:{quote(password, safe='')}@" if password else ""
        scheme = "redis" if tls is None else "rediss"
        url = f"redis+unix://{login}{path}" if unix else f"{scheme}://{login}127.0.0.1:{port}"
        with RedisServer([binary, configuration], url, path if unix else port, tls=tls is not None) as server:
            yield server


def valkey_server(*, unix: bool = False) -> contextlib.AbstractContextManager[RedisServer]:
    """As :func:`redis_server`, of Valkey.

    Raises:
        RuntimeError: ``valkey-server`` is not installed, or does not start.
    """
    return redis_server(unix=unix, binary=program("valkey-server", "install Valkey, or put its binary on PATH"))
