"""A Memcached server for tests and benchmarks: Debian's."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lambdaml_core.testing.servers import Server, free_port, program


class MemcachedServer(Server):
    """See :func:`memcached_server`.

    Attributes:
        address: host and port, or the path of its socket.
        url: what a job calls it.
    """

    def __init__(self, arguments: Sequence[str], address: tuple[str, int] | str) -> None:
        self.address = address
        if isinstance(address, str):
            self.url, place = f"memcached+unix://{address}", ["-s", address, "-a", "0777"]
        else:
            host, port = address
            self.url, place = f"memcached://{host}:{port}", ["-l", host, "-p", str(port), "-U", "0"]
        user = ["-u", "nobody"] if os.getuid() == 0 else []  # it refuses to be root
        super().__init__([program("memcached", "apt-get install memcached"), *place, *user, *arguments], self._listens)

    def connect(self) -> socket.socket:
        """Past the plugin: what tests ask of the server itself.

        Raises:
            OSError: nobody is there.
        """
        if not isinstance(self.address, str):
            return socket.create_connection(self.address, 30)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        try:
            client.connect(self.address)
        except OSError:
            client.close()
            raise
        return client

    def _listens(self) -> bool:
        self.connect().close()
        return True


@contextlib.contextmanager
def memcached_server(*arguments: str, memory_mb: int = 1024, unix: bool = False) -> Iterator[MemcachedServer]:
    """A server, on the loopback interface or on a unix socket; empty at each start.

    Args:
        arguments: further ones of ``memcached``, such as ``"-I", "8m"`` or ``"-M"``.
        memory_mb: memory for values, in MiB; it is taken as they come.
    """
    with tempfile.TemporaryDirectory(prefix="lambdaml-memcached-") as folder:
        Path(folder).chmod(0o777)  # it runs as another user where root starts it
        address = f"{folder}/socket" if unix else ("127.0.0.1", free_port())
        with MemcachedServer(["-m", str(memory_mb), *arguments], address) as server:
            yield server
