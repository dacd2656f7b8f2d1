"""Correct storages of unusual shape: one has the required methods and nothing else, one does all its own way."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from broken_limits import Expiring
from kit_storages import kit_url

from lambdaml_core.errors import KeyNotFound, StorageError, StorageUnavailable, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws


class SqliteStorage:
    caps = StorageCaps(
        scope="host", max_value_bytes=2 << 20, max_key_bytes=140, creates_once=True, durable=True, evicts=False
    )

    """A table of SQLite."""

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        self._path = Path(url.path)
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
                    self._connection.execute("PRAGMA synchronous = OFF")
                    self._connection.execute("CREATE TABLE IF NOT EXISTS v (key TEXT PRIMARY KEY, value BLOB)")
                yield self._connection
        except sqlite3.Error as e:
            kind = StorageUnavailable if e.sqlite_errorcode == sqlite3.SQLITE_BUSY else StorageError
            raise kind(f"{self._path}: {e}") from e


class InPieces(Expiring):
    """Puts many one by one, lists page by page, gives views of bytes, lets values go, and looks after itself."""

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        stored = set[str]()
        for key, data in items.items():
            stored |= set(super().put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))
            time.sleep(0)  # others come in between
        return stored

    def get(self, key: str) -> memoryview:  # type: ignore[override]
        return memoryview(bytearray(super().get(key)))

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, memoryview]:  # type: ignore[override]
        return {key: memoryview(data) for key, data in super().get_many(keys, wait_s=wait_s).items()}

    def list(self, prefix: str) -> Iterator[str]:
        last = ""
        while page := [*itertools.islice((key for key in super().list(prefix) if key > last), 100)]:
            yield from page
            last = page[-1]

    def checks(self) -> Iterator[Finding]:
        yield Finding(what="memory", state="ok", said="there is enough", values={"bytes": 1 << 30})
        yield Finding(what="neighbours", state="warning", said="there are some", remedy="move house")


class TestSqliteStorage(StorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return kit_url(__name__, "SqliteStorage", tmp_path / "values.db")


class TestInPieces(StorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return kit_url(__name__, "InPieces", tmp_path)


class TestOnlyConnect(StorageLaws):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], SqliteStorage]:
        url = StorageURL("sqlite", path=str(tmp_path / "values.db"))
        return lambda: SqliteStorage(url, NoOptions())


class TestNoDatabase(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return kit_url(__name__, "SqliteStorage", tmp_path / "nowhere/values.db")
