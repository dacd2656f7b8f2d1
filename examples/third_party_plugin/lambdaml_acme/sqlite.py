"""Values in one SQLite database: ``sqlite:///path/of/values.db``."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lambdaml_acme.plugin import SqliteOptions
from lambdaml_core.errors import (
    KeyNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    ValueTooLarge,
)
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps

_ERRORS: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_BUSY: StorageUnavailable,
    sqlite3.SQLITE_CANTOPEN: StorageDenied,
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_READONLY: StorageDenied,
}

_REPLACE = "INSERT OR REPLACE INTO kept VALUES (?, ?) RETURNING 1"
_CREATE = "INSERT OR IGNORE INTO kept VALUES (?, ?) RETURNING 1"  # a row comes back only if there was none


class SqliteStorage:
    """A table of keys and values; one statement is one transaction."""

    caps = StorageCaps(
        scope="host", max_value_bytes=16 << 20, creates_once=True, durable=True, evicts=False, checksums=False
    )

    def __init__(self, url: StorageURL, options: SqliteOptions) -> None:
        self._path = url.path
        self._busy_s = options.busy_s
        self._lock = threading.Lock()  # one connection serves all threads
        self._connection: sqlite3.Connection | None = None

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        value = b"".join(data)
        if len(value) > 16 << 20:
            raise ValueTooLarge(f"{key}: {len(value)} bytes are more than the 16 MiB that {self._path} takes")
        return bool(self._execute(_CREATE if if_absent else _REPLACE, [check_key(key), value]))

    def get(self, key: str) -> Buffer:
        rows = self._execute("SELECT value FROM kept WHERE key = ?", [check_key(key)])
        if not rows:
            raise KeyNotFound(f"there is no {key} in {self._path}")
        value: bytes = rows[0][0]
        return value

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._execute("DELETE FROM kept WHERE key = ?", [check_key(key)])

    def list(self, prefix: str) -> Iterator[str]:
        # "~" comes after every character of a key
        rows = self._execute("SELECT key FROM kept WHERE key >= ? AND key < ? ORDER BY key", [prefix, prefix + "~"])
        return (key for (key,) in rows)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _execute(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        try:
            with self._lock:
                return self._connected().execute(statement, values).fetchall()
        except sqlite3.Error as e:
            kind = _ERRORS.get(e.sqlite_errorcode & 0xFF, StorageError)
            raise kind(f"{self._path}: {e}") from e

    def _connected(self) -> sqlite3.Connection:
        """The connection, made at first use: building a storage does no I/O."""
        if self._connection is None:
            opened = sqlite3.connect(self._path, self._busy_s, isolation_level=None, check_same_thread=False)
            opened.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            self._connection = opened
        return self._connection
