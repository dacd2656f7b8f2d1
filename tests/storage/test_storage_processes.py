"""file:// between processes: one creates, none reads a torn value, and a wait ends when another process puts."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from storage_processes import PATIENCE_S, pass_on, race, read, write

SIZE = 4


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(SIZE, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["disk", "tmpfs"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path if request.param == "disk" else Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield f"file://{folder}"
    shutil.rmtree(folder)


def test_one_of_many_processes_creates(processes: ProcessPoolExecutor, url: str) -> None:
    turns = 25
    running = [processes.submit(race, url, me, SIZE, turns) for me in range(SIZE)]
    outcomes = [each.result(PATIENCE_S) for each in running]
    for turn in range(turns):
        winners = [me for me in range(SIZE) if outcomes[me][turn][0]]
        assert len(winners) == 1
        assert {outcome[turn][1] for outcome in outcomes} == {b"%04d" % winners[0]}


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


def test_a_wait_ends_when_another_process_puts(processes: ProcessPoolExecutor, url: str) -> None:
    turns = 30
    running = [processes.submit(pass_on, url, me, SIZE, turns) for me in range(SIZE)]
    totals = [each.result(PATIENCE_S) for each in running]
    passed = range(turns * SIZE - 1)
    assert totals == [sum(token for token in passed if (token + 1) % SIZE == me) for me in range(SIZE)]
