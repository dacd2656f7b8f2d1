"""Watching runs that have ended, reading their logs, and removing what killed drivers leave."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_help import ROOT, cancer, files_below, keys_of, make_job

from lambdaml_core.errors import OptionError, RunCancelled, RunError, RunNotFound, WorkerFailed
from lambdaml_core.provider import processes
from lambdaml_core.run.driver.driver import new_run_name, run_job
from lambdaml_core.run.driver.remote import cancel_run, clean, read_logs, watch_run
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.driver.scratch import local_channel
from lambdaml_core.run.records.history import read_history
from lambdaml_core.run.records.records import list_runs, read_run
from lambdaml_core.storage.file import FileStorage

KILLED = """
import os, sys
from runs_help import cancer, make_job
from lambdaml_core.run.driver.driver import run_job

def on_event(event):
    if event["event"] == "partitioned":
        os.kill(os.getpid(), 9)

run_job(make_job(sys.argv[1]), arrays=cancer(), on_event=on_event)
"""


class Enough(Exception):
    """Raised by a listener."""


def enough(event: Any) -> None:
    """A listener that leaves once there is a checkpoint: the second one begins when the first has been written."""
    if event["event"] == "progress" and event["round"] > 10:
        raise Enough


def unborn(store: Path) -> str:
    """A run whose driver was killed when it had written the rows and nothing else."""
    before = set(store.glob("runs/*"))
    command = [sys.executable, "-c", KILLED, str(store)]
    assert subprocess.run(command, cwd=ROOT / "tests" / "runs", env={"PYTHONPATH": str(ROOT)}).returncode == -9
    (folder,) = set(store.glob("runs/*")) - before
    assert any("/data/" in str(path) for path in files_below(folder))
    return folder.name


def failed(store: Path) -> str:
    """A run that diverged."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    settings = {"name": "ga_sgd", "learning_rate": 50.0}
    keys: dict[str, Any] = {"workers": 2, "provider": "inline", "model": "least_squares", "optimizer": settings}
    name = new_run_name("failed")
    with np.errstate(all="ignore"), pytest.raises(WorkerFailed):
        run_job(make_job(store, **keys, rounds=1000), arrays=(x, x.sum(axis=1)), run=name)
    return name


def cancelled(store: Path) -> str:
    """A run whose listener had enough."""
    name = new_run_name("cancelled")
    job = make_job(store, workers=2, rounds=10**9, provider="inline", checkpoint={"rounds": 5})
    with pytest.raises(Enough):
        run_job(job, arrays=cancer(), on_event=enough, run=name)
    return name


def test_a_run_that_has_ended_is_told_from_its_beginning(tmp_path: Path) -> None:
    seen: list[Any] = []
    record = run_job(make_job(tmp_path, provider="inline"), arrays=cancer(), on_event=seen.append)
    told: list[Any] = []
    assert watch_run(record["store"], record["run"], on_event=told.append) == record
    assert told[0]["event"] == "launched"
    for key in ("workers", "rounds", "aggregators", "run"):
        assert told[0][key] == next(e for e in seen if e["event"] == "launched")[key]
    history = read_history(record["store"], record["run"])
    assert [r for e in told if e["event"] == "rounds" for r in e["loss"]] == history["rounds"]["loss"]
    assert [e for e in told if e["event"] == "epoch"] == [e for e in seen if e["event"] == "epoch"]
    assert told[-1]["event"] == "progress"
    with pytest.raises(RunError, match="has ended already: succeeded"):
        cancel_run(record["store"], record["run"])


def test_an_error_of_a_listener_is_its_own(tmp_path: Path) -> None:
    record = run_job(make_job(tmp_path, provider="inline"), arrays=cancer())

    def on_event(event: Any) -> None:
        raise ValueError("of the listener")

    with pytest.raises(ValueError, match="of the listener"):
        watch_run(record["store"], record["run"], on_event=on_event)
    assert read_run(record["store"], record["run"]) == record


def test_watching_runs_that_did_not_succeed(tmp_path: Path) -> None:
    store = f"file://{tmp_path}"
    run = failed(tmp_path)
    with pytest.raises(RunError, match=f"worker . of run {run}: .*diverged") as caught:
        watch_run(store, run)
    assert caught.value.hint == f"lambdaml logs {run}"
    run = cancelled(tmp_path)
    with pytest.raises(RunCancelled, match=f"the run {run} was cancelled") as stopped:
        watch_run(store, run)
    assert stopped.value.hint == f"lambdaml resume {run} goes on with it"


def test_the_logs_of_a_run_that_failed(tmp_path: Path) -> None:
    store, run = f"file://{tmp_path}", failed(tmp_path)
    lines = list(read_logs(store, run))
    assert {rank for rank, _ in lines} <= {0, 1}
    assert any("diverged" in text for _, text in lines)
    assert [*read_logs(store, run, 0), *read_logs(store, run, 1)] == lines
    for rank in (-1, 2):
        with pytest.raises(OptionError, match=f"has no worker {rank}"):
            list(read_logs(store, run, rank))


def test_what_a_driver_leaves_that_is_killed_before_it_starts_workers(tmp_path: Path) -> None:
    store, run = f"file://{tmp_path}", unborn(tmp_path)
    assert list_runs(store) == []
    assert clean(store) == [run]
    assert keys_of(tmp_path) == []
    run = unborn(tmp_path)
    assert clean(store, run) == [run]
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"time_s": "now"}', '{"time_s": 1e12, "handle": 3}'])
def test_what_is_left_of_a_preparation_with_a_damaged_sign_of_life(tmp_path: Path, text: str) -> None:
    run = unborn(tmp_path)
    (tmp_path / "runs" / run / "driver.json").write_text(text)
    assert clean(f"file://{tmp_path}") == [run]
    assert files_below(tmp_path) == []


def test_the_channel_of_a_run_that_was_never_specified(tmp_path: Path) -> None:
    run = unborn(tmp_path)
    url = local_channel(run, 2, 100)
    folder = Path(url.removeprefix("file://"))
    assert folder.is_dir()
    assert clean(f"file://{tmp_path}") == [run]
    assert not folder.exists()


def test_a_driver_that_is_busy_or_stopped_while_it_prepares(tmp_path: Path) -> None:
    """It has left no sign of life for a day, but its process is there."""
    run = unborn(tmp_path)
    path = tmp_path / "runs" / run / "driver.json"
    driver = json.loads(path.read_text())
    path.write_text(json.dumps(driver | {"handle": processes.handle_of(), "time_s": driver["time_s"] - 86400}))
    store = f"file://{tmp_path}"
    assert clean(store) == []
    with pytest.raises(RunError, match="still going on"):
        clean(store, run)


class Killed(BaseException):
    """What a process is whose next step never comes."""


@pytest.mark.parametrize("provider", ["inline", "local"])
def test_a_clean_that_is_killed_can_be_done_again(
    tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_job(make_job(tmp_path, provider=provider, workers=1, rounds=2), arrays=cancer())
    driver = tmp_path / "runs" / record["run"] / "driver.json"
    driver.write_text(json.dumps(json.loads(driver.read_text()) | {"handle": "elsewhere", "time_s": 0.0}))
    whole = len(keys_of(tmp_path))
    delete = FileStorage.delete
    left = 0

    def delete_some(self: FileStorage, keys: Iterable[str]) -> None:
        nonlocal left
        for key in keys:
            if left == 0:
                raise Killed
            left -= 1
            delete(self, [key])

    folder = tmp_path / "runs" / record["run"]
    for steps in range(1, whole + 1):  # before each further key that there is
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            left = 1
            patch.setattr(FileStorage, "delete", delete_some)
            clean(record["store"])
        if not files_below(folder):
            break
        assert steps < whole
    assert clean(record["store"]) == []
    assert files_below(tmp_path) == []


def test_a_run_without_most_of_its_records_can_be_removed_by_name(tmp_path: Path) -> None:
    record = run_job(make_job(tmp_path, provider="local", workers=1, rounds=2), arrays=cancer())
    folder = tmp_path / "runs" / record["run"]
    for path in files_below(folder):
        if path.name != "spec.json":
            path.unlink()
    assert clean(record["store"], record["run"]) == [record["run"]]
    assert files_below(tmp_path) == []


def test_a_copy_of_a_run_is_not_resumed(tmp_path: Path) -> None:
    store, run = tmp_path / "store", cancelled(tmp_path / "store")
    copy = shutil.copytree(store, tmp_path / "copy")
    before = files_below(tmp_path)
    with pytest.raises(RunError, match=f"the run {run} is in {store}, and {copy} is a copy of it"):
        resume_run(f"file://{copy}", run)
    assert files_below(tmp_path) == before
    link = tmp_path / "link"
    link.symlink_to(store)
    with pytest.raises(Enough):  # by another name it is the same
        resume_run(f"file://{link}", run, on_event=enough)


# --- what others who can write to a store may have written ------------------------------------------------------


def test_a_folder_that_is_not_of_logs_is_not_removed(tmp_path: Path) -> None:
    record = run_job(make_job(tmp_path / "store", provider="local", workers=1, rounds=2), arrays=cancer())
    store, run = record["store"], record["run"]
    folder = tmp_path / "store" / "runs" / run
    mine = tmp_path / "thesis"
    mine.mkdir()
    for name in ("end/0.json", "ends/0/0.json", "result.json"):
        (folder / name).unlink()
    driver = json.loads((folder / "driver.json").read_text())
    (folder / "driver.json").write_text(json.dumps(driver | {"time_s": 0.0}))
    for token in ("0" * 16, "..", "", "/thesis", 3):
        (folder / "deployment.json").write_text(json.dumps({"logs": str(mine), "token": token, "entry": "a:b"}))
        for act in (clean, cancel_run, resume_run, lambda store, run: list(read_logs(store, run))):
            with pytest.raises(RunError, match=f"the run {run} are damaged"):
                act(store, run)
    assert mine.is_dir()


def test_a_specification_of_another_run(tmp_path: Path) -> None:
    one, other = (run_job(make_job(tmp_path, provider="inline", rounds=2), arrays=cancer()) for _ in range(2))
    store, spec = one["store"], Path("runs", one["run"], "spec.json")
    (tmp_path / spec).write_bytes((tmp_path / "runs" / other["run"] / "spec.json").read_bytes())
    for act in (read_run, clean, cancel_run, resume_run):
        with pytest.raises(RunError, match=f"the run {one['run']} are damaged: .*{other['run']}"):
            act(store, one["run"])
    assert list_runs(store) == [other]


def test_a_run_that_is_being_prepared_is_left_alone(tmp_path: Path) -> None:
    store, tried = f"file://{tmp_path}", []

    def on_event(event: Any) -> None:
        if event["event"] == "partitioned":
            assert clean(store) == []
            with pytest.raises(RunError, match="still going on"):
                clean(store, event["run"])
            tried.append(event["run"])

    record = run_job(make_job(tmp_path, provider="inline"), arrays=cancer(), on_event=on_event)
    assert tried == [record["run"]]
    assert record["status"] == "succeeded"


def test_a_wrong_name_among_several(tmp_path: Path) -> None:
    record = run_job(make_job(tmp_path, provider="inline"), arrays=cancer())
    with pytest.raises(RunNotFound):
        clean(record["store"], record["run"], record["run"][:-1])
    assert read_run(record["store"], record["run"]) == record
    assert clean(record["store"], record["run"]) == [record["run"]]
