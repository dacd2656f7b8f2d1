"""Handles of processes: real ones, whose numbers are used again, which are zombies, or which will not end."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.provider import processes

WAIT_S = 60
PAUSE = "import signal, sys; print('begun', flush=True); signal.pause()"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {PAUSE}"
CHAIN = """
import os, signal, sys, time
left = int(sys.argv[1])
def start_another(number, frame):
    if left:
        os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", sys.argv[2], str(left - 1), sys.argv[2]])
    os._exit(0)
signal.signal(signal.SIGTERM, start_another)
print("begun", flush=True)
signal.pause()
"""


class Started:
    """Processes of one test, none of which outlives it."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[bytes]] = []

    def __call__(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, env={**os.environ, **environment})
        self.all.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def end(self) -> None:
        for process in self.all:
            with process:
                process.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens to SIGTERM ends by it, however late it gets to run."""
    monkeypatch.setattr(processes, "_GRACE_S", float(WAIT_S))
    monkeypatch.setattr(processes, "_HOPELESS_S", 2.0 * WAIT_S)


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    started.end()


def wait_for_end(pid: int) -> None:
    """Until it has ended; it is not waited for."""
    fd = os.pidfd_open(pid)
    assert select.select([fd], [], [], WAIT_S)[0]
    os.close(fd)


def later(handle: str, ticks: int) -> str:
    host, pid, started = handle.split("/")
    return f"{host}/{pid}/{int(started) + ticks}"


def test_a_process_runs_then_is_a_zombie_then_is_gone(start: Started) -> None:
    process = start(sys.executable, "-c", PAUSE)
    handle = processes.handle_of(process.pid)
    assert processes.state_of(handle) == "running"
    assert processes.group_of(handle) == os.getpgrp()
    assert processes.send(handle, signal.SIGKILL)
    wait_for_end(process.pid)
    assert processes.handle_of(process.pid) == handle
    assert processes.state_of(handle) == "ended"
    assert processes.group_of(handle) is None
    assert not processes.send(handle, signal.SIGKILL)
    process.wait()
    assert processes.state_of(handle) == "ended"
    with pytest.raises(ProcessLookupError):
        processes.handle_of(process.pid)


@given(st.integers(-(2**40), 2**40).filter(bool))
def test_a_number_that_is_used_again_is_another_process(ticks: int) -> None:
    """This process has the number; the handle is of one that was started at another time."""
    mine = processes.handle_of()
    assert processes.state_of(mine) == "running"
    other = later(mine, ticks)
    assert processes.state_of(other) == ("ended" if int(other.rpartition("/")[2]) >= 0 else "unknown")
    assert not processes.send(other, signal.SIGKILL)


@pytest.mark.parametrize("handle", ["", "7", "7/0/1", "elsewhere-1/1/1", "a/b/c", "inline/0/0/0/0"])
def test_what_is_no_process_of_this_machine(handle: str) -> None:
    assert processes.state_of(handle) == "unknown"
    assert processes.group_of(handle) is None
    assert not processes.send(handle, signal.SIGKILL)


def test_a_name_may_look_like_the_rest_of_the_line(start: Started, tmp_path: Path) -> None:
    odd = tmp_path / "x) Z 1 (1"
    shell = shutil.which("sh")
    assert shell is not None
    odd.symlink_to(shell)
    process = start(str(odd), "-c", "echo begun; read line")
    assert Path(f"/proc/{process.pid}/comm").read_text() == f"{odd.name}\n"
    assert processes.state_of(processes.handle_of(process.pid)) == "running"


@pytest.mark.usefixtures("patient")
def test_marks_are_told_apart_and_inherited(start: Started) -> None:
    mark = f"run-{os.getpid()}"
    for other in (f"{mark}0", f"0{mark}", ""):
        start(sys.executable, "-c", PAUSE, LAMBDAML_RUN=other)
    start(sys.executable, "-c", PAUSE, NOT_LAMBDAML_RUN=mark)
    assert list(processes.find(mark)) == []
    parent = start(sys.executable, "-c", f"import os; os.fork(); {PAUSE}", LAMBDAML_RUN=mark)
    found = list(processes.find(mark))
    assert processes.handle_of(parent.pid) in found
    assert len(found) == 2
    assert processes.end_all(lambda: list(processes.find(mark))) == []
    assert list(processes.find(mark)) == []
    assert parent.wait(WAIT_S) == -signal.SIGTERM  # it is not found any more some time before it has ended
    assert [p.poll() for p in start.all[:-1]] == [None] * 4


@pytest.mark.parametrize(
    ("how", "program", "signal_"),
    [
        ("it listens", PAUSE, signal.SIGTERM),
        ("it does not", IGNORES, signal.SIGKILL),
        ("it is stopped", IGNORES, signal.SIGKILL),
    ],
)
def test_ending(
    how: str, program: str, signal_: signal.Signals, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_HOPELESS_S", 2.0 * WAIT_S)
    if how == "it listens":
        monkeypatch.setattr(processes, "_GRACE_S", float(WAIT_S))
    process = start(sys.executable, "-c", program)
    if how == "it is stopped":
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    handle = processes.handle_of(process.pid)
    assert processes.end_all(lambda: [handle] if processes.state_of(handle) == "running" else []) == []
    assert process.wait(WAIT_S) == -signal_


@pytest.mark.usefixtures("patient")
def test_ending_those_that_start_others_when_they_are_ended(start: Started) -> None:
    mark = f"chain-{os.getpid()}"
    first = start(sys.executable, "-c", CHAIN, "5", CHAIN, LAMBDAML_RUN=mark)
    assert processes.end_all(lambda: list(processes.find(mark))) == []
    assert first.wait(WAIT_S) == 0
    assert list(processes.find(mark)) == []


def test_another_user_s_processes_are_passed_over(monkeypatch: pytest.MonkeyPatch, start: Started) -> None:
    """As this user sees them: their environment cannot be read."""
    mark = f"mine-{os.getpid()}"
    process = start(sys.executable, "-c", PAUSE, LAMBDAML_RUN=mark)
    read = Path.read_bytes
    refused: Mapping[str, type[OSError]] = {"1": PermissionError, str(os.getpid()): ProcessLookupError}

    def guarded(path: Path) -> bytes:
        if path.parent.name in refused:
            raise refused[path.parent.name]
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    assert list(processes.find(mark)) == [processes.handle_of(process.pid)]
