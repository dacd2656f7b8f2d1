"""Bad input, failures and interrupts: one clear line, the exit code that says which, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_help import environment, everything_in, lambdaml, printed, write_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_job(tmp_path)


# --- bad input ----------------------------------------------------------------------------------------------


def _rows(folder: Path, text: str | bytes) -> None:
    (folder / "rows.libsvm").write_bytes(text if isinstance(text, bytes) else text.encode())


def _partition(folder: Path) -> None:
    done = lambdaml(folder, "partition", "rows.libsvm", "--shards", "2", "--out", "shards")
    assert done.returncode == 0, done.stderr


def _unreadable(folder: Path) -> None:
    (folder / "rows.libsvm").unlink()
    (folder / "rows.libsvm").mkdir()


GOOD = "".join(f"{i % 2} 1:{i / 100} 2:1\n" for i in range(100))
BAD: dict[str, tuple[Any, list[str], str]] = {
    "malformed line": (lambda f: _rows(f, GOOD + "1 2:x\n" + GOOD), [], r"rows\.libsvm\b.*\b101\b"),
    "index 0": (lambda f: _rows(f, GOOD + "1 0:1\n"), [], r"rows\.libsvm\b.*\b101\b"),
    "label is a word": (lambda f: _rows(f, "spam 1:1\n" + GOOD), [], r"rows\.libsvm\b.*\b1\b"),
    "NaN": (lambda f: _rows(f, GOOD + "1 1:nan\n"), [], r"rows\.libsvm\b.*\b101\b"),
    "infinite": (lambda f: _rows(f, GOOD + "1 1:inf\n"), [], r"rows\.libsvm\b.*\b101\b"),
    "one class only": (lambda f: _rows(f, "1 1:1\n" * 100), [], "label"),
    "a class for every row": (
        lambda f: _rows(f, "".join(f"{i} 1:1\n" for i in range(10_001))),
        [],
        "10,000 different labels",
    ),
    "empty file": (lambda f: _rows(f, ""), [], r"rows\.libsvm"),
    "no gzip": (lambda f: _rows(f, b"\x1f\x8bnot gzip"), [], r"rows\.libsvm"),
    "file missing": (lambda f: (f / "rows.libsvm").unlink(), [], r"rows\.libsvm"),
    "fewer rows than workers": (lambda f: _rows(f, "0 1:1\n1 1:2\n"), ["--set", "workers=4"], r"\brows\b"),
    "zero workers": (None, ["--set", "workers=0"], "workers must be at least 1, not 0"),
    "more aggregators than workers": (None, ["--set", "aggregators=3"], "aggregators"),
    "unknown key": (None, ["--set", "worker=3"], "unknown key worker"),
    "unknown option": (None, ["--set", "optimizer.learning=3"], r"optimizer\.learning"),
    "option of another type": (None, ["--set", "optimizer.momentum=much"], r"optimizer\.momentum must be float"),
    "option out of range": (None, ["--set", "optimizer.learning_rate=-1"], r"optimizer\.learning_rate must be above 0"),
    "unknown model": (None, ["--set", "model=logistics"], "logistics"),
    "unknown optimizer": (None, ["--set", "optimizer.name=sgd"], "sgd"),
    "unknown provider": (None, ["--set", "provider=locale"], "locale"),
    "unknown storage": (None, ["--set", "channel=ftp://x/y"], "ftp"),
    "no storage URL": (None, ["--set", "channel=://"], "URL"),
    "password in a URL": (None, ["--set", "channel=redis://:secret@host/0"], "password"),
    "more features than there may be": (None, ["--set", "data.features=3"], r"rows\.libsvm\b.*\bindex 4\b.*\b3\b"),
    "shards of other features": (
        _partition,
        ["--set", "data.source=shards", "--set", "data.features=28"],
        "4 features.* 28",
    ),
    "no files there": (_unreadable, [], r"rows\.libsvm.*no data files"),
    "no such format": (None, ["--set", "data.format=libsvn"], "libsvn"),
    "a format's option": (None, ["--set", "data.format.layot=dense"], r"format\.layot"),
    "stop that is none": (None, ["--set", "stop.los=1"], r"stop\.los"),
    "weight of no class": (None, ["--set", "class_weight.spam=2"], "class_weight names spam"),
    "no model to go on from": (None, ["--set", "init_from=nowhere"], "nowhere: model.json is missing"),
    "store below a file": (None, ["--set", "store=rows.libsvm/store"], r"rows\.libsvm.*[Nn]ot a directory"),
    "job missing": (lambda f: (f / "job.toml").unlink(), [], r"job\.toml"),
    "job no TOML": (lambda f: (f / "job.toml").write_text("workers ="), [], r"job\.toml"),
    "unknown flag": (None, ["--fast"], "--fast"),
    "setting without a value": (None, ["--set", "workers"], "KEY=VALUE"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(folder: Path, name: str) -> None:
    spoil, words, message = BAD[name]
    if spoil is not None:
        spoil(folder)
    before = everything_in(folder)
    done = lambdaml(folder, "train", "job.toml", *words)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.match(f"error: .*{message}", lines[0]), lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert "secret" not in done.stderr
    assert {k: v for k, v in everything_in(folder).items() if v is not None or k in before} == before


def test_bad_input_as_json(folder: Path) -> None:
    done = lambdaml(folder, "train", "job.toml", "--json", "--set", "workers=0")
    assert done.returncode == 2
    assert done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"code", "message", "hint"}
    assert "workers" in error["message"]


@pytest.mark.parametrize("words", [["show", "nobody"], ["clean", "nobody"]])
def test_a_run_that_is_not_there(folder: Path, words: list[str]) -> None:
    done = lambdaml(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody" in done.stderr


@pytest.mark.parametrize("words", [[], ["--set", "data.source=shards"]], ids=["partition", "run"])
def test_a_full_disk_is_said_and_leaves_nothing(folder: Path, words: list[str]) -> None:
    """A limit on the size of files stands for the end of the disk: the same writes fail in the same way."""
    _partition(folder)
    before = everything_in(folder)
    limited = "import resource, sys, lambdaml_core.cli as c; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900)); "
    command = [sys.executable, "-c", limited + "sys.exit(c.main())", "train", "job.toml", *words]
    unmeasured = environment(folder)
    unmeasured.pop("COVERAGE_PROCESS_CONFIG", None)  # what coverage writes when the process ends would not fit either
    done = subprocess.run(command, cwd=folder, env=unmeasured, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.match("error: no room for ", done.stderr)
    assert len(done.stderr.splitlines()) == 2
    assert {k: v for k, v in everything_in(folder).items() if v is not None} == {
        k: v for k, v in before.items() if v is not None
    }


def test_a_run_that_fails_is_exit_code_1_and_can_be_looked_at(folder: Path) -> None:
    diverging = "optimizer={name='ga_sgd', learning_rate=1e38, momentum=0.99}"
    words = ["train", "job.toml", "--set", diverging]
    done = lambdaml(folder, *words)
    assert (done.returncode, done.stdout.count("Traceback")) == (1, 0)
    assert re.match(r"error: worker \d of run \S+: training diverged: .*\nhint: .*learning_rate.*\n$", done.stderr)
    failed = lambdaml(folder, *words, "--json")
    assert (failed.returncode, failed.stderr) == (1, "")
    assert json.loads(failed.stdout)["error"]["code"] == "worker_failed"
    records = printed(lambdaml(folder, "runs", "--json"))["runs"]
    assert [r["status"] for r in records] == ["failed", "failed"]
    assert [r["model_path"] for r in records] == [None, None]
    shown = lambdaml(folder, "show", records[0]["run"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "failed" in shown.stdout
    assert "training diverged" in shown.stdout


# --- interrupts ---------------------------------------------------------------------------------------------


def _children_of(folder: Path) -> list[int]:
    """Processes that were started for a run of this folder and are still there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_workers_and_marks_the_run(folder: Path, provider: str, number: signal.Signals) -> None:
    words = ["train", "job.toml", "--set", f"provider={provider}", "--set", "epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "lambdaml_core", *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:  # until it trains
        if line.startswith("epoch"):
            break
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert _children_of(folder) == []
    (record,) = printed(lambdaml(folder, "runs", "--json"))["runs"]
    assert record["status"] == "cancelled"
    assert "cancelled" in lambdaml(folder, "show", record["run"]).stdout
