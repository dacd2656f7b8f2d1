"""``lambdaml train --chaos``."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_help import environment, lambdaml, printed, write_job
from held_runs import held

from lambdaml_core.run.records.records import list_runs

SETTINGS = ("--set", "provider=local", "--set", "epochs=100")
ROUNDS = 500


@contextlib.contextmanager
def chaos(folder: Path, *words: str, held_for: int) -> Iterator[subprocess.Popen[str]]:
    """A run under fire that is not over before so many kills, however late they come."""
    with held(folder / "held", ROUNDS - 10) as gate:
        gate.let_go()
        command = [sys.executable, "-u", "-c", gate.chaos(held_for), "train", "job.toml", *SETTINGS, *gate.words]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*command, *words], cwd=folder, env=environment(folder), stdout=pipe, stderr=pipe, text=True
        ) as process:
            yield process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_job(tmp_path)


def test_the_record_says_what_was_killed_and_whether_the_models_are_equal(folder: Path) -> None:
    with chaos(folder, "--chaos", "2", "--json", held_for=2) as process:
        out, errors = process.communicate()
    record = printed(subprocess.CompletedProcess(process.args, process.returncode, out, errors))
    assert record["rounds"] == ROUNDS
    assert (record["kills"], record["driver_kills"]) == (2, 1)
    assert record["equal"] is True
    assert record["quiet_sha256"] == record["model_sha256"]
    assert record["overhead"] > -1
    assert record["status"] == "succeeded"
    assert record["quiet_run"] != record["run"]
    assert sorted(kill["what"] for kill in record["killed"]) == ["driver", "worker"]
    for kill in record["killed"]:
        assert set(kill) == {"at_s", "what", "rank", "attempt"}
        assert (kill["rank"] is None) == (kill["attempt"] is None) == (kill["what"] == "driver")
    shown = printed(lambdaml(folder, "show", record["run"], "--json"))
    assert shown["model_sha256"] == record["quiet_sha256"]


def test_ctrl_c_leaves_no_process(folder: Path) -> None:
    """While the second run is under way: its driver is a process that Ctrl-C does not reach."""
    with chaos(folder, "--chaos", "5", held_for=1000) as started:
        assert started.stdout is not None
        seen = []
        for line in started.stdout:
            seen.append(line)
            if "killed" in line:
                break
        else:
            pytest.fail("".join(seen) + started.communicate()[1])
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate()
    assert started.returncode == 130, errors
    assert "was cancelled" in errors
    quiet, chaotic = list_runs((folder / "store").as_uri())
    assert (quiet["status"], chaotic["status"]) == ("succeeded", "cancelled")
    assert not _processes_of(chaotic["run"])
    assert lambdaml(folder, "clean", "--all").returncode == 0
    assert [path for path in (folder / "store").rglob("*") if path.is_file()] == []


def _processes_of(run: str) -> list[str]:
    """Command lines of all that this user runs and that name it, in their words or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if run.encode() in said:
            found.append((process / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--chaos", "0"), "0 is not in the range x>=1"),
        (("--chaos", "2"), "workers of the provider inline cannot be killed"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, folder: Path) -> None:
    done = lambdaml(folder, "train", "job.toml", *words, "--json")
    assert done.returncode == 2
    assert message in json.loads(done.stdout)["error"]["message"]
    assert not (folder / "store").exists()
