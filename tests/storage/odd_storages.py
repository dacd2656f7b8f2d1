"""A correct storage of unusual shape: a table of SQLite, with the required methods and nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from lambdaml_core.errors import KeyNotFound, StorageError, ValueTooLarge
from lambdaml_core.storage import check_key
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws


class SqliteStorage:
    caps = StorageCaps(
        scope="host", max_value_bytes=2 << 20, max_key_bytes=140, creates_once=True, durable=True, evicts=False
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        value = b"".join(data)
        if len(value) > 2 << 20:
            raise ValueTooLarge(f"{key} has {len(value)} bytes")
        how = "OR IGNORE" if if_absent else "OR REPLACE"
        with self._database() as database:
            return database.execute(f"INSERT {how} INTO v VALUES (?, ?)", (self._key(key), value)).rowcount == 1  # noqa: S608

    def get(self, key: str) -> bytes:
        with self._database() as database:
            row = database.execute("SELECT value FROM v WHERE key = ?", (self._key(key),)).fetchone()
        if row is None:
            raise KeyNotFound(key)
        return bytes(row[0])

    def delete(self, keys: Iterable[str]) -> None:
        rows = [(self._key(key),) for key in keys]
        with self._database() as database:
            database.executemany("DELETE FROM v WHERE key = ?", rows)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _key(self, key: str) -> str:
        return check_key(key, self.caps.max_key_bytes)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._connection is None:
                    self._connection = sqlite3.connect(
                        self._path, timeout=60, isolation_level=None, check_same_thread=False
                    )
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    self._connection.execute("PRAGMA synchronous = OFF")
                    self._connection.execute("CREATE TABLE IF NOT EXISTS v (key TEXT PRIMARY KEY, value BLOB)")
                yield self._connection
        except sqlite3.Error as e:
            raise StorageError(f"{self._path}: {e}") from e


class TestSqliteStorage(StorageLaws):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], SqliteStorage]:
        return lambda: SqliteStorage(tmp_path / "values.db")


class TestNoDatabase(UnreachableStorageLaws):
    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Callable[[], SqliteStorage]:
        return lambda: SqliteStorage(tmp_path / "nowhere" / "values.db")
