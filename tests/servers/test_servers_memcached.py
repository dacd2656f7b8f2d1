"""Runs whose messages go over Memcached."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from run_laws import RunsOverAServerThatComesBack
from servers_help import LONG, SOON, harmed, late, model_of_files, one_line, train

from lambdaml_core.errors import StorageFull, StorageUnavailable, WorkerFailed
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.servers import free_port
from lambdaml_memcached.testing import MemcachedServer, memcached_server

LARGE = {"features": 40_000, "rounds": 2}
"""Of jobs whose messages have some 100 KB and more."""


def items(server: MemcachedServer) -> int:
    """How many the server says that it has."""
    with server.connect() as s, s.makefile("rb") as answers:
        s.sendall(b"stats\r\n")
        stats = dict(line.split()[1:3] for line in iter(answers.readline, b"END\r\n"))
    return int(stats[b"curr_items"])


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with memcached_server(memory_mb=64) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: MemcachedServer) -> str:
    return server.url


@pytest.fixture(scope="module")
def left(server: MemcachedServer) -> Callable[[], int]:
    return lambda: items(server)


class TestMemcached(RunsOverAServerThatComesBack):
    """A channel."""


def test_nobody_there(tmp_path: Path) -> None:
    url = f"memcached://127.0.0.1:{free_port()}"
    with pytest.raises(StorageUnavailable, match="the channel memcached://") as gone:
        train(tmp_path.as_uri(), url)
    assert url in one_line(gone.value)
    assert list_runs(tmp_path.as_uri()) == []


def keep_full(url: str, over: threading.Event) -> None:
    """A run has room again when it deletes what it has folded: it is taken, too."""
    while not over.is_set():
        fill(url)


def fill(url: str) -> None:
    """Until it refuses what is as large as a message, whose class of memory may be that of somewhat larger values."""
    with contextlib.closing(open_storage(url)) as storage:
        for size in (LARGE["features"] * 4 + extra for extra in (64 << 10, 16 << 10, 4 << 10, 1 << 10, 0)):
            with contextlib.suppress(StorageFull):
                for number in itertools.count():
                    storage.put(f"of/somebody/else/{size}/{number}", [bytes(size)])


def test_full_memory_ends_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    """Where the server is told to refuse what it has no room for. Elsewhere it evicts, as in tests of lost channels."""
    with memcached_server("-M", memory_mb=8) as server:
        store = tmp_path.as_uri()
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool:

            def harm() -> None:
                pool.submit(keep_full, server.url, over)

            try:
                with pytest.raises(WorkerFailed) as full:
                    harmed(store, late(server.url), harm, features=LARGE["features"], **SOON)
            finally:
                over.set()
        assert "out of memory" in one_line(full.value)
        (record,) = list_runs(store)
        assert record["status"] == "failed"
        server.kill()
        server.start()  # empty
        resumed = resume_run(store, record["run"])
    assert resumed["model_sha256"] == model_of_files(features=LARGE["features"], rounds=LONG["rounds"])


def test_items_that_are_too_large_for_the_server(tmp_path: Path) -> None:
    """Its administrator has lowered -I. As soon as the URL says so, messages are cut."""
    larger = {**LARGE, "features": 200_000}
    with memcached_server("-I", "512k") as server:
        with pytest.raises(WorkerFailed) as large:
            train(tmp_path.as_uri(), server.url, **larger)
        assert "item_bytes" in one_line(large.value)
        record = train(tmp_path.as_uri(), f"{server.url}?item_bytes={512 << 10}", **larger)
    assert record["model_sha256"] == model_of_files(**larger)
