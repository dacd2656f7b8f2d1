"""``lambdaml train``, ``runs``, ``show`` and ``clean`` where all goes well."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_help import environment, everything_in, lambdaml, printed, write_job

from lambdaml_core import load
from lambdaml_core.cli.train import parse_settings
from lambdaml_core.errors import JobError
from lambdaml_core.run.job import Job
from lambdaml_core.run.template import JOB_TEMPLATE

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
    "metrics": dict,
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
    "requests": {"put", "get", "delete", "list", "missed"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_job(tmp_path)


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


@pytest.mark.parametrize(
    ("words", "figures", "absent"),
    [
        (
            ["model=least_squares", "optimizer.learning_rate=0.1"],
            r"loss 0\.\d+  rmse 0\.\d+  r2 -?\d\S*",
            "accuracy|auc",
        ),
        (["model=svm", "data.source=three.libsvm"], r"loss \d\.\d+  accuracy [01]\S*", "auc|r2"),
        (["data.validation=0"], r"training loss 0\.\d+", "accuracy|auc"),
    ],
    ids=["numbers", "three classes", "no validation"],
)
def test_only_figures_that_a_model_has_are_shown(folder: Path, words: list[str], figures: str, absent: str) -> None:
    rows = (folder / "rows.libsvm").read_text().splitlines()
    (folder / "three.libsvm").write_text("\n".join(f"{i % 3}{row[1:]}" for i, row in enumerate(rows)) + "\n")
    done = lambdaml(folder, "train", "job.toml", *(part for word in words for part in ("--set", word)))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(rf"^epoch [123]  round \d+  {figures}$", done.stdout, re.MULTILINE)) == 3, done.stdout
    assert not re.search(rf"\b({absent})\b", done.stdout)


def test_going_on_from_the_model_of_a_run(folder: Path) -> None:
    """By its path, and with stops from the command line."""
    first = printed(lambdaml(folder, "train", "job.toml", "--json", "--set", "stop.loss=0.3", "--set", "evaluate=1"))
    words = ["--set", f"init_from={first['model_path']}", "--set", "stop={loss=0.3}", "--set", "evaluate=1"]
    again = printed(lambdaml(folder, "train", "job.toml", "--json", *words))
    assert (first["stop_reason"], again["stop_reason"]) == ("loss", "loss")
    assert again["rounds"] == 1 < first["rounds"]


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
    bare = "\n".join(line.removeprefix("# ") for line in JOB_TEMPLATE.splitlines() if "=" in line or line[:1] == "[")
    values = tomllib.loads(bare)
    default = Job.from_mapping({}).to_mapping()
    assert set(values) == set(default)
    for table in ("data", "stop", "checkpoint", "recovery", "model", "optimizer", "provider"):
        assert set(values[table]) == set(default[table])
    for table in ("model", "optimizer", "provider"):
        assert {k: v for k, v in values[table].items() if default[table][k] is not None} == {
            k: v for k, v in default[table].items() if v is not None
        }


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
    with pytest.raises(JobError, match="--set") as caught:
        parse_settings(settings)
    assert caught.value.hint


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
