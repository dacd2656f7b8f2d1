"""``lambdaml train``, ``runs``, ``show`` and ``clean`` through the real command line, each in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambdaml_core import load
from lambdaml_core.cli.train import parse_settings
from lambdaml_core.errors import JobError
from lambdaml_core.run.job import Job

ROOT = Path(__file__).parents[2]

RECORD: Mapping[str, type | tuple[type, ...]] = {
    "schema": int,
    "run": str,
    "status": str,
    "stop_reason": str,
    "model": str,
    "optimizer": str,
    "aggregators": int,
    "store": str,
    "channel": str,
    "provider": str,
    "workers": int,
    "rounds": int,
    "epochs": (int, float),
    "loss": float,
    "accuracy": float,
    "auc": float,
    "baseline_accuracy": float,
    "train_loss": float,
    "seconds": dict,
    "bytes": dict,
    "requests": dict,
    "cost_usd": (int, float),
    "model_path": str,
    "model_sha256": str,
}
NESTED = {
    "seconds": {"total", "start", "load", "compute", "communicate", "wait"},
    "bytes": {"sent", "received"},
    "requests": {"put", "get", "delete", "list"},
}

JOB = """
workers = 2
epochs = 3
batch_size = 50
provider = "inline"
[data]
source = "rows.libsvm"
[optimizer]
learning_rate = 1.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty home with a job and its data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = (x.sum(axis=1) + 0.5 * rng.normal(size=300) > 0).astype(int)
    lines = [f"{b} " + " ".join(f"{i + 1}:{v:.5f}" for i, v in enumerate(row)) for row, b in zip(x, y, strict=True)]
    (tmp_path / "rows.libsvm").write_text("\n".join(lines) + "\n")
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the user's own is touched."""
    return {**os.environ, "HOME": str(folder), "LAMBDAML_STORE": str(folder / "store"), "PYTHONPATH": str(ROOT)}


def lambdaml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder`` and wait for it."""
    command = [sys.executable, "-m", "lambdaml_core", *words]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON object on standard output."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def check_record(record: Mapping[str, Any]) -> None:
    """Every key of the contract, with its type."""
    for key, kind in RECORD.items():
        assert isinstance(record[key], kind), (key, record[key])
    for key, names in NESTED.items():
        assert set(record[key]) == names
        assert all(isinstance(v, int | float) for v in record[key].values())


# --- the contract of --json ---------------------------------------------------------------------------------


def test_train_and_show_print_one_object_with_every_key(folder: Path) -> None:
    record = printed(lambdaml(folder, "train", "job.toml", "--json"))
    check_record(record)
    assert record["schema"] == 1
    assert record["status"] == "succeeded"
    assert (record["workers"], record["epochs"], record["provider"]) == (2, 3, "inline")
    assert printed(lambdaml(folder, "show", record["run"], "--json")) == record
    assert load(record["model_path"]).sha256 == record["model_sha256"]
    listing = printed(lambdaml(folder, "runs", "--json"))
    assert listing["schema"] == 1
    assert listing["runs"] == [{k: v for k, v in record.items() if k != "schema"}] or listing["runs"] == [record]


def test_what_people_see_when_piped_is_plain(folder: Path) -> None:
    done = lambdaml(folder, "train", "job.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert len(re.findall(r"^epoch [123]\b.*\bloss 0\.\d+.*\bauc 0\.\d+$", done.stdout, re.MULTILINE)) == 3
    assert re.search(r"^run +\S+: succeeded", done.stdout, re.MULTILINE)
    run = re.findall(r"^run +(\S+?):", done.stdout, re.MULTILINE)[-1]
    for words in (["runs"], ["show", run]):
        shown = lambdaml(folder, *words)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert run in shown.stdout
        assert "succeeded" in shown.stdout
        assert "\x1b" not in shown.stdout


def test_a_long_run_prints_a_short_log(folder: Path) -> None:
    done = lambdaml(folder, "train", "job.toml", "--set", "epochs=200")
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert 15 <= len(lines) <= 21
    assert lines[-1].startswith("epoch 200 ")


def test_a_terminal_gets_a_live_view(folder: Path) -> None:
    """A pseudo terminal: escape codes while the run goes on, the summary at the end."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "lambdaml_core", "train", "job.toml"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment(folder), "TERM": "xterm", "COLUMNS": "80"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    while select.select([screen], [], [], 60)[0]:
        try:
            chunk = os.read(screen, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(screen)
    assert process.wait() == 0, seen
    text = seen.decode()
    assert "\x1b[" in text
    for word in ("preparing", "rounds/s", "train loss", "validation loss", "load", "compute", "communicate", "wait"):
        assert word in text
    assert re.search(r"\b\d+/15\b", text), text
    assert "succeeded" in text.rpartition("\x1b")[2]


# --- settings and template ----------------------------------------------------------------------------------


def test_the_template_is_a_job(folder: Path) -> None:
    done = lambdaml(folder, "train", "--template")
    assert done.returncode == 0
    assert Job.from_mapping(tomllib.loads(done.stdout), base=folder).workers == 4
    (folder / "train.libsvm").write_bytes((folder / "rows.libsvm").read_bytes())
    (folder / "template.toml").write_text(done.stdout)
    words = ["train", "template.toml", "--json", "--set", "provider=inline", "--set", "epochs=1"]
    assert printed(lambdaml(folder, *words))["status"] == "succeeded"


def test_the_template_shows_every_key_with_its_default() -> None:
    from lambdaml_core.run.job import job_template

    bare = "\n".join(line.removeprefix("# ") for line in job_template().splitlines() if "=" in line or line[:1] == "[")
    values = tomllib.loads(bare)
    default = Job.from_mapping({}).to_mapping()
    assert set(values) == set(default)
    assert set(values["data"]) == set(default["data"])
    for table in ("model", "optimizer", "provider"):
        assert values[table] == default[table]


def test_set_changes_one_key_and_keeps_the_others(folder: Path) -> None:
    words = ["--set", "workers=3", "--set", "optimizer.momentum=0.5", "--set", 'aggregators="all"']
    record = printed(lambdaml(folder, "train", "job.toml", "--json", *words, "--set", "data.validation=0.5"))
    assert (record["workers"], record["aggregators"], record["rounds"]) == (3, 3, 9)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ((), {}),
        (("workers=3",), {"workers": 3}),
        (("optimizer.l2=1e-4", "optimizer.name=ga_sgd"), {"optimizer": {"l2": 1e-4, "name": "ga_sgd"}}),
        (("data.source=my file.libsvm",), {"data": {"source": "my file.libsvm"}}),
        (("store=file:///tmp/a=b",), {"store": "file:///tmp/a=b"}),
        (("data.format.layout=dense",), {"data": {"format": {"layout": "dense"}}}),
        (("model.bias=false",), {"model": {"bias": False}}),
        (('name="12"',), {"name": "12"}),
    ],
)
def test_settings(settings: tuple[str, ...], values: Mapping[str, Any]) -> None:
    assert parse_settings(settings) == values


@pytest.mark.parametrize(
    "settings", [("workers",), ("=3",), (".a=3",), ("a=1", "a=2"), ("a=1", "a.b=2"), ("a.b=2", "a=1")]
)
def test_settings_that_are_none(settings: tuple[str, ...]) -> None:
    with pytest.raises(JobError, match="--set"):
        parse_settings(settings)


# --- clean --------------------------------------------------------------------------------------------------


def test_clean_removes_what_it_was_told_to_and_nothing_else(folder: Path) -> None:
    first = printed(lambdaml(folder, "train", "job.toml", "--json"))["run"]
    second = printed(lambdaml(folder, "train", "job.toml", "--json"))["run"]
    before = everything_in(folder / "store")
    for words in ([], [first, "--all"], [first, "nobody"]):
        done = lambdaml(folder, "clean", *words)
        assert done.returncode == 2
        assert done.stdout == ""
    assert everything_in(folder / "store") == before
    assert printed(lambdaml(folder, "clean", first, "--json"))["removed"] == [first]
    assert [r["run"] for r in printed(lambdaml(folder, "runs", "--json"))["runs"]] == [second]
    assert not any(first in name for name in everything_in(folder / "store"))
    assert printed(lambdaml(folder, "clean", "--all", "--json"))["removed"] == [second]
    assert printed(lambdaml(folder, "runs", "--json"))["runs"] == []
    assert [name for name, data in everything_in(folder / "store").items() if data is not None] == []


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
    "three classes": (lambda f: _rows(f, GOOD + "2 1:1\n"), [], "label"),
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
    "no partition there": (_unreadable, [], r"rows\.libsvm.*no partition"),
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
