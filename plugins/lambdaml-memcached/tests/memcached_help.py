"""What several tests of this plugin ask of a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lambdaml_core.options import parse
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.layers import Complete
from lambdaml_memcached.options import MemcachedOptions
from lambdaml_memcached.storage import MemcachedStorage
from lambdaml_memcached.testing import MemcachedServer


@contextlib.contextmanager
def bare(url: str) -> Iterator[MemcachedStorage]:
    """The plugin's own storage, with no layer around it that would cut values or try again."""
    parsed = StorageURL.parse(url)
    with contextlib.closing(MemcachedStorage(parsed, parse(MemcachedOptions, parsed.query, where="memcached"))) as own:
        yield own


@contextlib.contextmanager
def opened(url: str) -> Iterator[Complete]:
    """The same, with all that a storage may leave out."""
    with bare(url) as own:
        yield Complete(own)


def ask(server: MemcachedServer, request: str) -> list[str]:
    """What a server answers by itself, past the plugin; up to the first line that ends an answer."""
    with server.connect() as client, client.makefile("rw", newline="\r\n") as f:
        f.write(f"{request}\n")
        f.flush()
        lines: list[str] = []
        while not lines or lines[-1].startswith("STAT "):
            lines.append(f.readline().rstrip())
        return lines


def figure(server: MemcachedServer, name: str) -> int:
    """One of the server's figures."""
    return next(int(line.split()[2]) for line in ask(server, "stats") if line.startswith(f"STAT {name} "))
