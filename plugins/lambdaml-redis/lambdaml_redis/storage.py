"""Values in Redis or Valkey: ``redis://``, ``rediss://`` and ``redis+unix://``.

A key is a stream of one entry, with the ID 1-1. ``XADD key 1-1`` creates it exactly once, since an ID must be larger
than the last; ``XREAD BLOCK`` waits for many of them at once in the server, brings a small value with the wake-up, and
takes it from nobody. A large value is a string beside it, which the server keeps as it came, where a stream copies it.
All of a value is put in one transaction with its expiry, so that nothing is without.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lambdaml_core.errors import KeyNotFound, OptionError, StorageError, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.blocks import Blocks
from lambdaml_core.storage.layers import size_of
from lambdaml_redis.address import Address
from lambdaml_redis.connection import Connection
from lambdaml_redis.errors import of_connection, of_refusal
from lambdaml_redis.options import RedisOptions
from lambdaml_redis.resp import Commands, ProtocolError, Refusal, Reply

MAX_VALUE_BYTES = 4 << 20
"""Measured with 40 MB over a unix socket: pieces of 1 MiB cost a quarter more of processors' time, 2 MiB a tenth."""

# Amazon ElastiCache, us-east-1, as of 2026: nodes are paid by the hour (see the README), requests cost nothing
_USD = {"put": 0.0, "get": 0.0, "delete": 0.0, "list": 0.0}

_NETWORK = StorageCaps(
    scope="network",
    max_value_bytes=MAX_VALUE_BYTES,
    piece_bytes=MAX_VALUE_BYTES,
    creates_once=True,
    blocks=True,
    expires=True,
    durable=False,
    evicts=True,  # or not: that is the server's maxmemory-policy, which `lambdaml doctor` looks at
    latency_s=0.23e-3,  # 1 KB within one VPC, as published for ElastiCache
    bytes_per_s=1.26e9,  # of a cache.m5.large, as measured by Jiang et al., SIGMOD 2021
    usd=_USD,
)
_HOST = StorageCaps(
    **{**vars(_NETWORK), "scope": "host", "checksums": False, "latency_s": 0.05e-3, "bytes_per_s": 2.5e9}
)

_ID, _ALL = b"1-1", b"0-0"
_HERE, _BESIDE = b"d", b"s"  # fields of an entry: the value, or nothing, for it is the string beside the stream
_STRING = b":s"  # makes the string's name of the stream's; no key has a colon
_LARGE_BYTES = 32 << 10  # from here on a string is worth another round trip of its readers
_AGAIN_S = 0.01  # a string that was evicted is looked for this often: its stream is there, and wakes at once
_EXISTS = "ERR The ID specified in XADD is equal or smaller"
_KEYS_PER_DELETE = 1000
_KEPT_BYTES = 128 << 20  # of memory that values are received into


class RedisStorage:
    """Implements :class:`~lambdaml_core.storage.base.Storage`, with lists, many keys at once and waits.

    Every thread that makes a request has a connection of its own while it does; connections are kept and used again.
    """

    def __init__(self, url: StorageURL, options: RedisOptions) -> None:
        self._address, self._options = Address.of(url, options), options
        try:
            self._prefix = check_key(options.prefix) + "/" if options.prefix else ""
        except StorageError as e:
            raise OptionError(f"option prefix: {e.message}", hint=e.hint) from e
        self._blocks = Blocks(_KEPT_BYTES)
        self._idle: list[Connection] = []
        self._closed = False
        self._lock = threading.Lock()

    @property
    def caps(self) -> StorageCaps:
        return _HOST if self._address.socket else _NETWORK

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(self.put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        """One transaction for each, all in one round trip."""
        life_ms = b"%d" % math.ceil(1000 * (self._options.expire_s if ttl_s is None else ttl_s))
        commands, ends = Commands(), [0]
        for key, data in items.items():
            name, size = self._name(key), size_of(data)
            if size > MAX_VALUE_BYTES:
                raise ValueTooLarge(f"{key}: {size} bytes are more than the {MAX_VALUE_BYTES} of one value in Redis")
            commands.add(b"MULTI")
            if not if_absent:
                commands.add(b"UNLINK", name, name + _STRING)
            if size < _LARGE_BYTES:
                commands.add(b"XADD", name, _ID, _HERE, data)
            else:
                commands.add(b"SET", name + _STRING, data, b"NX", b"PX", life_ms)
                commands.add(b"XADD", name, _ID, _BESIDE, b"")
            commands.add(b"PEXPIRE", name, life_ms, b"NX")  # a value that was there keeps its own life
            commands.add(b"EXEC")
            ends.append(commands.count)
        answers = self._ask(commands)
        stored = [self._stored(answers[first:end]) for first, end in itertools.pairwise(ends)]
        return [key for key, created in zip(items, stored, strict=True) if created]

    def get(self, key: str) -> Buffer:
        found = self.get_many([key])
        if key not in found:
            raise KeyNotFound(f"there is no {key} in {self._address.shown}")
        return found[key]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        names = {self._name(key): key for key in keys}
        if not names:
            return {}
        end = time.monotonic() + wait_s
        left_s = wait_s
        while True:
            # the server answers within the time in which silence would mean that it is gone
            block = _block(min(left_s, self._options.timeout_s / 2)) if left_s > 0 else ()
            entries = self._streams(list(names), block)
            found = {names[name]: value for name, value in self._values(entries).items()}
            left_s = end - time.monotonic()
            if found or left_s <= 0:
                return found
            if entries:
                time.sleep(min(_AGAIN_S, left_s))

    def delete(self, keys: Iterable[str]) -> None:
        names = [name + kind for key in keys for name in [self._name(key)] for kind in (b"", _STRING)]
        commands = Commands()
        for first in range(0, len(names), _KEYS_PER_DELETE):
            commands.add(b"UNLINK", *names[first : first + _KEYS_PER_DELETE])
        for answer in self._ask(commands):
            self._check(answer)

    def list(self, prefix: str) -> Iterator[str]:
        """As :meth:`SupportsList.list`; a walk through all keys of the database, in pages."""
        pattern = _literal(self._prefix + prefix) + b"*"
        names: set[str] = set()
        cursor = b"0"
        while True:
            commands = Commands()
            commands.add(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000", b"TYPE", b"stream")
            (answer,) = self._ask(commands)
            cursor, page = self._page(answer)
            names.update(page)
            if cursor == b"0":
                return (name.removeprefix(self._prefix) for name in sorted(names))

    def checks(self) -> Iterator[Finding]:
        """As :meth:`SupportsChecks.checks`."""
        from lambdaml_redis.checks import checks  # a worker has no use for it

        return checks(self._address, self._options)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._drop_idle()
        self._blocks.clear()

    def _name(self, key: str) -> bytes:
        return (self._prefix + check_key(key)).encode()

    # --- values

    def _streams(self, names: Sequence[bytes], block: Sequence[bytes] = ()) -> dict[bytes, tuple[bytes, Buffer]]:
        """For each key that exists its only entry, and of that the only field and its value."""
        commands = Commands()
        commands.add(b"XREAD", *block, b"STREAMS", *names, *[_ALL] * len(names))
        (answer,) = self._ask(commands)
        return self._entries(answer)

    def _entries(self, answer: Reply) -> dict[bytes, tuple[bytes, Buffer]]:
        self._check(answer)
        fields: Any = answer or ()
        try:
            return {name: (field, value) for name, ((_, (field, value)),) in fields}
        except (TypeError, ValueError):
            raise self._strange(answer) from None

    def _values(self, entries: Mapping[bytes, tuple[bytes, Buffer]]) -> dict[bytes, Buffer]:
        """Small values are in the entries; strings are fetched. One that is not there may have been replaced just now,
        as often as anybody looks, so that it is looked for in one step; else it has been evicted."""
        found = {name: value for name, (field, value) in entries.items() if field == _HERE}
        beside = [name for name in entries if name not in found]
        commands = Commands()
        for name in beside:
            commands.add(b"GET", name + _STRING)
        for name, answer in zip(beside, self._ask(commands), strict=True):
            self._check(answer)
            value = answer if isinstance(answer, bytes | memoryview) else self._in_one_step(name)
            if value is not None:
                found[name] = value
        return found

    def _in_one_step(self, name: bytes) -> Buffer | None:
        """A value that others replace meanwhile; None = it is not there."""
        commands = Commands()
        commands.add(b"MULTI")
        commands.add(b"XREAD", b"STREAMS", name, _ALL)
        commands.add(b"GET", name + _STRING)
        commands.add(b"EXEC")
        *said, done = self._ask(commands)
        for answer in (*said, done):
            self._check(answer)
        try:
            streams, string = done  # type: ignore[misc]  # what is no pair is told below
        except (TypeError, ValueError):
            raise self._strange(done) from None
        entry = self._entries(streams).get(name)
        if entry is None or entry[0] == _HERE:
            return None if entry is None else entry[1]
        return string if isinstance(string, bytes | memoryview) else None

    # --- answers

    def _stored(self, answers: Sequence[Reply]) -> bool:
        """Whether a transaction has created its value; raises if it was refused."""
        done = answers[-1]
        for answer in answers[:-1]:
            self._check(answer)
        self._check(done)
        if not isinstance(done, list) or len(done) != len(answers) - 2:
            raise self._strange(done)
        created = done[-2]
        if isinstance(created, Refusal) and created.line.startswith(_EXISTS):
            return False
        for answer in done:
            self._check(answer)
        return True

    def _page(self, answer: Any) -> tuple[bytes, Sequence[str]]:
        """Of an answer to SCAN: the next cursor, and keys."""
        self._check(answer)
        try:
            cursor, names = answer
            return bytes(cursor), [name.decode("utf-8", "replace") for name in names]
        except (TypeError, ValueError, AttributeError):
            raise self._strange(answer) from None

    def _check(self, answer: Reply) -> None:
        if isinstance(answer, Refusal):
            raise of_refusal(self._address.shown, answer)

    def _strange(self, answer: Reply) -> StorageError:
        said = f"{self._address.shown} does not answer as Redis does: {answer!r:.40}"
        return StorageError(said, hint="look at host and port of the URL")

    # --- connections

    def _ask(self, commands: Commands) -> Sequence[Reply]:
        """Make a request; a connection on which it has not come to its end is closed: its answers would follow."""
        if not commands.count:
            return []
        connection = self._connection()
        try:
            answers = connection.ask(commands)
        except (OSError, EOFError, ProtocolError) as e:
            connection.close()
            self._drop_idle()  # they are likely to have ended with it
            raise of_connection(self._address.shown, e, self._options.timeout_s) from e
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return answers
        connection.close()
        return answers

    def _connection(self) -> Connection:
        while True:
            with self._lock:
                if self._closed:
                    raise StorageError(f"{self._address.shown} was closed")
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.alive():
                return connection
            connection.close()
        return Connection(self._address, self._options, self._blocks)

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _block(wait_s: float) -> tuple[bytes, bytes]:
    return b"BLOCK", b"%d" % math.ceil(1000 * wait_s)


def _literal(text: str) -> bytes:
    """A pattern that matches this text alone."""
    return "".join(f"\\{c}" if c in "\\*?[]^" else c for c in text).encode()
