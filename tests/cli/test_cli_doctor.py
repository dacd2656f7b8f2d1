"""``lambdaml doctor``: what it prints, to whom, and how it ends. What it finds is tested in tests/runs."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_help import environment, everything_in, lambdaml, printed, write_job

FIELDS = {"group", "subject", "what", "state", "said", "remedy", "values", "fixable"}


def test_a_job_that_is_well(tmp_path: Path) -> None:
    """Plain lines, nothing on standard error, and nothing left behind."""
    write_job(tmp_path)
    before = everything_in(tmp_path)
    done = lambdaml(tmp_path, "doctor", "job.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert re.search(r"^0 problems, \d+ warnings?$", done.stdout.splitlines()[-1])
    titles = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")][:-1]
    store = f"store file://{tmp_path}/store"
    assert titles == ["environment", "plugins", "job", "provider inline", "job", store, "machine"]
    assert everything_in(tmp_path) == before


def test_a_problem_is_printed_with_its_remedy(tmp_path: Path) -> None:
    done = lambdaml(tmp_path, "doctor", "--channel", "redis://{env:NOBODY_SET_THIS}@host")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    at = lines.index("  problem  credentials: NOBODY_SET_THIS is not set")
    assert lines[at + 1].split(maxsplit=1) == ["remedy:", "export NOBODY_SET_THIS=..., here and where the workers run"]
    assert lines[-1].startswith("1 problem, ")


def test_json_has_all_of_it(tmp_path: Path) -> None:
    seen = printed(lambdaml(tmp_path, "doctor", "--json"))
    assert all(set(finding) == FIELDS for finding in seen["findings"])
    assert seen["counts"]["problem"] == 0
    assert seen["counts"]["ok"] > 10
    assert (seen["mended"], seen["schema"]) == ([], 1)


def test_wrong_usage(tmp_path: Path) -> None:
    for words in (["--patience", "0"], ["--patience", "inf"], ["--patience", "nan"], ["a", "b"], ["--nothing"]):
        done = lambdaml(tmp_path, "doctor", *words)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")


def on_a_terminal(folder: Path, *words: str) -> tuple[int, str]:
    """Run the command where a person sits."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lambdaml_core", "doctor", *words]
    with subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while chunk := read(ours):
            seen += chunk
    os.close(ours)
    return process.returncode, seen.decode()


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_person_sees_what_is_looked_at_just_now(tmp_path: Path) -> None:
    code, seen = on_a_terminal(tmp_path)
    assert code == 0
    assert f"looking at store file://{tmp_path}/store: use ..." in seen
    lines = re.sub(r"[^\n]*\r\x1b\[K", "", seen.replace("\r\n", "\n"))  # as they stand in the end
    assert "looking at" not in lines
    assert "speed: put" in lines
    _, machine = on_a_terminal(tmp_path, "--json")
    assert "looking at" not in machine


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]])
def test_an_interrupt_leaves_nothing_in_a_storage(tmp_path: Path, signals: list[signal.Signals]) -> None:
    """It comes while values are put, each of which takes a second."""
    store = f"fault+file://{tmp_path}/late?fault_delay=1&fault_delay_s=1"
    command = [sys.executable, "-m", "lambdaml_core", "doctor", "--store", store]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not any((tmp_path / "late").glob("doctor-*/kept")):
            assert process.poll() is None
        for number in signals:
            process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip() == "error: interrupted"
    assert not (tmp_path / "late").exists()
