"""file:// between processes: none reads a torn value, also where the memory of deleted ones is used again."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from storage_processes import PATIENCE_S, read, write


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["disk", "tmpfs"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path if request.param == "disk" else Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield f"file://{folder}"
    shutil.rmtree(folder)


@pytest.mark.parametrize("delete", [False, True], ids=["overwritten", "deleted and created"])
def test_no_process_reads_a_torn_value(processes: ProcessPoolExecutor, url: str, delete: bool) -> None:
    writing = [processes.submit(write, url, me, 150, delete) for me in range(2)]
    reading = [processes.submit(read, url, len(writing)) for _ in range(2)]
    for writer in writing:
        writer.result(PATIENCE_S)
    for reader in reading:
        intact, torn = reader.result(PATIENCE_S)
        assert intact > 0
        assert torn == 0
