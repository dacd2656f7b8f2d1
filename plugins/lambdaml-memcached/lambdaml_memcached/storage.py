"""``memcached://host:port`` and ``memcached+unix:///path``: messages in the memory of one Memcached server."""

from __future__ import annotations

import contextlib
import math
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lambdaml_core.errors import (
    KeyNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    URLError,
    ValueTooLarge,
)
from lambdaml_core.findings import Finding
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.blocks import Blocks
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.layers import size_of
from lambdaml_core.storage.url import StorageURL
from lambdaml_memcached.connection import Connection, Refused
from lambdaml_memcached.options import MemcachedOptions

_PORT = 11211
_CONNECTIONS = 8
_ITEM_OVERHEAD = 512  # header, key of 250 bytes, CAS number and line end are 309 in 1.6; older ones add a few
_KEPT_BYTES = 64 << 20  # memory for values that are received
_MOST_RELATIVE_S = 30 * 86_400  # the protocol reads a larger number as a date
_LAST_DATE = (1 << 31) - 1
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
# What goes in one round trip counts as requests at once, and shares the bandwidth of the node: so a few small values
# take one latency, and many large ones what the node can do.
_NETWORK = StorageCaps(  # requests cost nothing: nodes are paid by the hour (README)
    scope="network",
    parallel=_CONNECTIONS,
    creates_once=True,
    expires=True,
    latency_s=0.23e-3,  # 1 KB within one VPC, as published for ElastiCache
    bytes_per_s=1.26e9 / _CONNECTIONS,  # of a cache.m5.large, as measured by Jiang et al., SIGMOD 2021
)
_HOST = replace(
    _NETWORK, scope="host", checksums=False, latency_s=0.05e-3, bytes_per_s=2.4e9 / _CONNECTIONS
)  # the loopback interface of two shared cores


class MemcachedStorage:
    """A channel, never a store: the server forgets when it is full or restarted, and cannot list.

    One server: a second one would be a second place to look, and half of the messages lost with either.

    Raises:
        URLError: the URL names no server, several, or more than a server; a user without a password, or certificates
            without encryption.
        OptionError: see :class:`MemcachedOptions`.
    """

    def __init__(self, url: StorageURL, options: MemcachedOptions) -> None:
        self._unix = url.scheme.endswith("+unix")
        if self._unix and (url.host or url.port is not None or not url.path or options.tls):
            raise URLError(
                f"{url} must have the path of a socket and no server or tls", hint="write it as memcached+unix:///path"
            )
        if not self._unix and (not url.host or "," in url.host or url.path not in ("", "/")):
            raise URLError(f"{url} must name one server and nothing in it", hint="write it as memcached://host:port")
        if bool(url.user) != bool(url.password):
            raise URLError(f"{url} has only one of user and password", hint="write memcached://user:password@host:port")
        if options.tls_ca and not options.tls:
            raise URLError(f"{url} has certificates and no encryption", hint="add tls=true")
        self._url, self._options = url, options
        self.caps = replace(
            _HOST if self._unix or url.host in _LOOPBACK else _NETWORK,
            max_value_bytes=options.item_bytes - _ITEM_OVERHEAD,
        )
        self._blocks = Blocks(_KEPT_BYTES)
        self._idle: list[Connection] = []
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(self.put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        for key, data in items.items():
            self._check(key)
            self._check_size(key, size_of(data))
        with self._connected() as connection:
            return connection.store("add" if if_absent else "set", items, self._time(ttl_s))

    def get(self, key: str) -> Buffer:
        found = self.get_many([key])
        if key not in found:
            raise KeyNotFound(f"there is no {key} in {self._url}")
        return found[key]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        """As the contract says, but for the wait: Memcached has none, and who waits owns the pauses."""
        for key in keys:
            self._check(key)
        with self._connected() as connection:
            return connection.fetch(keys)

    def delete(self, keys: Iterable[str]) -> None:
        legal = [self._check(key) for key in keys]
        with self._connected() as connection:
            connection.delete(legal)

    def close(self) -> None:
        """Hang up; a later use connects again."""
        while self._idle:
            self._idle.pop().close()
        self._blocks.clear()

    def checks(self) -> Iterator[Finding]:
        """What can be wrong with a server, for ``lambdaml doctor``."""
        from lambdaml_memcached.checks import checks  # workers do not need them

        try:
            with self._connected() as connection:
                figures, settings = connection.stats(), connection.stats("settings")
        except StorageError as e:
            yield Finding(what="server", state="problem", said=e.message, remedy=e.hint or f"look at {self._url}")
            return
        yield from checks(figures, settings, self._options)

    def _check(self, key: str) -> str:
        return check_key(key, self.caps.max_key_bytes)

    def _check_size(self, key: str, size: int) -> None:
        most = self._options.item_bytes - _ITEM_OVERHEAD
        if size > most:
            raise ValueTooLarge(
                f"{key}: {size} bytes are more than the {most} that fit into an item",
                hint="start memcached with a larger -I, and say so by ?item_bytes= in the URL",
            )

    def _time(self, ttl_s: float | None) -> int:
        """When a value may go, as the protocol has it. The server counts whole seconds, and the first is not whole."""
        left_s = math.ceil(min(ttl_s if ttl_s is not None else self._options.expire_s, _LAST_DATE)) + 1
        return left_s if left_s <= _MOST_RELATIVE_S else min(int(time.time()) + left_s, _LAST_DATE)

    # --- connections

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection of one's own. After an error it is closed, since its answers may still be on their way."""
        with self._slots:
            try:
                connection = self._idle.pop() if self._idle else self._connect()
            except (OSError, Refused) as e:
                raise self._error(e) from e
            try:
                yield connection
            except BaseException as e:
                connection.close()
                if isinstance(e, OSError | Refused):
                    self.close()  # the others have most likely met the same
                    raise self._error(e) from e
                raise
            self._idle.append(connection)

    def _connect(self) -> Connection:
        address = self._url.path if self._unix else (self._url.host.strip("[]"), self._url.port or _PORT)
        tls = ssl.create_default_context(cafile=self._options.tls_ca or None) if self._options.tls else None
        connection = Connection(address, self._options.timeout_s, self._blocks, tls)
        if self._url.user:
            try:
                connection.log_in(self._url.user, self._url.password)
            except BaseException:
                connection.close()
                raise
        return connection

    def _error(self, e: Exception) -> StorageError:
        """What an error of a connection means."""
        said = f"{self._url}: {e}"
        if isinstance(e, PermissionError):
            return StorageDenied(said, hint="let this user write to the socket (memcached -a 0770)")
        if isinstance(e, ssl.SSLCertVerificationError) or (self._options.tls and _is_of_a_file(e)):
            return StorageDenied(said, hint="name the file with the certificates of its authority by ?tls_ca=")
        if isinstance(e, TimeoutError | BlockingIOError):
            said = f"{self._url}: no answer for {self._options.timeout_s:g} s"
        if not isinstance(e, Refused):
            with_tls = " with TLS (-Z)" if self._options.tls else ""
            return StorageUnavailable(said, hint=f"see whether memcached runs there{with_tls} and can be reached")
        if "object too large" in said:
            return ValueTooLarge(
                f"{self._url} takes no items of {self._options.item_bytes} bytes",
                hint="start memcached with -I of as much, or give its item_size_max as ?item_bytes= in the URL",
            )
        if "out of memory" in said.lower():
            return StorageFull(said, hint="give memcached more memory (-m), or stop what else uses it")
        if "authenticat" in said or "asks for no" in said:
            return StorageDenied(said, hint="write the user and password of its -Y file in the URL, or neither")
        if "Too many open connections" in said:
            return StorageUnavailable(said, hint="let memcached take more connections (-c)")
        return StorageError(said)


def _is_of_a_file(e: Exception) -> bool:
    """Whether it says that there is no file of certificates, or none are in it."""
    return isinstance(e, FileNotFoundError) or (isinstance(e, ssl.SSLError) and e.library == "X509")
