"""Workers that die, runs that are interrupted, specifications that were tampered with, secrets."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from child_processes import children
from runs_help import ROOT, cancer, keys_of, make_job, scratch_of

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.errors import RunError, StorageDenied, WorkerFailed
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.records.records import list_runs, read_run
from lambdaml_core.run.spec import Spec, sha256
from lambdaml_core.run.worker.worker import run_worker
from lambdaml_core.storage import open_storage

ENDLESS = {"rounds": 10**9, "epochs": None}
WAIT_S = 240
SECRET = "hunter2-of-the-night"  # noqa: S105


def contents(url: str) -> dict[str, bytes]:
    storage = open_storage(url)
    try:
        return {key: bytes(storage.get(key)) for key in storage.list("")}
    finally:
        storage.close()


SCRIPT = """
import json, signal, sys
from child_processes import children
from runs_help import cancer, make_job
from lambdaml_core.errors import RunCancelled
from lambdaml_core.run.driver.driver import run_job

def tell(event):
    if event["event"] == sys.argv[2]:
        print(json.dumps([event["run"], children()]), flush=True)
        if event["event"] == "partitioned":
            signal.pause()

job = make_job(sys.argv[1], workers=3, rounds=10**9, provider=sys.argv[3])
try:
    run_job(job, arrays=cancer(), on_event=tell)
except RunCancelled as e:
    print(e.message, flush=True)
    sys.exit(e.exit_code)
"""


@pytest.mark.parametrize(
    ("number", "moment", "provider"),
    [
        (signal.SIGINT, "launched", "local"),
        (signal.SIGINT, "progress", "local"),
        (signal.SIGTERM, "progress", "local"),
        (signal.SIGINT, "partitioned", "local"),
        (signal.SIGINT, "progress", "inline"),
    ],
)
def test_an_interrupt(tmp_path: Path, number: int, moment: str, provider: str) -> None:
    """As Ctrl-C in a terminal: to the driver's process group. No process, no channel, the run marked."""
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), moment, provider],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests:{ROOT}/tests/runs"},
        process_group=0,
    )
    assert driver.stdout is not None
    assert select.select([driver.stdout], [], [], WAIT_S)[0]
    run, workers = json.loads(driver.stdout.readline())
    gone = [os.pidfd_open(pid) for pid in workers]
    os.killpg(driver.pid, number)
    out, errors = driver.communicate(timeout=WAIT_S)
    assert (driver.returncode, errors) == (130, b"")
    assert len(out.splitlines()) >= 1
    for fd in gone:  # readable once the process has ended
        assert select.select([fd], [], [], 0)[0]
        os.close(fd)
    assert len(workers) == (3 if provider == "local" and moment != "partitioned" else 0)
    assert not scratch_of(run).exists()
    runs = list_runs(f"file://{tmp_path}")
    if moment == "partitioned":
        assert (runs, keys_of(tmp_path)) == ([], [])
        return
    assert [(r["run"], r["status"], r["stop_reason"]) for r in runs] == [(run, "cancelled", "interrupted")]
    assert clean(f"file://{tmp_path}", run) == [run]
    assert keys_of(tmp_path) == []


def test_an_error_of_who_listens_cancels_the_run(tmp_path: Path) -> None:
    def listen(event: Any) -> None:
        if event["event"] == "progress":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_job(make_job(tmp_path, workers=2, **ENDLESS), arrays=cancer(), on_event=listen)
    assert children() == []
    (record,) = list_runs(f"file://{tmp_path}")
    assert record["status"] == "cancelled"
    assert "ZeroDivisionError" in str(record["stop_reason"])
    assert not scratch_of(record["run"]).exists()


def test_a_run_that_goes_on_is_not_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.run.records.status.DRIVER_S", 3600.0)  # it may stand still where it is looked at
    seen: list[Any] = []

    def look(event: Any) -> None:
        if event["event"] == "progress":
            seen.append(read_run(f"file://{tmp_path}", event["run"]))
            assert clean(f"file://{tmp_path}") == []
            clean(f"file://{tmp_path}", event["run"])

    with pytest.raises(RunError, match="still going on"):
        run_job(make_job(tmp_path, workers=2, **ENDLESS), arrays=cancer(), on_event=look)
    assert seen[0]["status"] == "running"
    assert seen[0]["rounds"] > 0
    assert seen[0]["model_path"] is None


@pytest.fixture
def finished(tmp_path: Path) -> tuple[str, WorkerRef]:
    """A store with a run of one worker that has ended, and the reference its worker got."""
    write_arrays(*cancer(), open_storage(f"file://{tmp_path}/shards"), shards=2)
    url = f"file://{tmp_path}/store"
    record = run_job(make_job(url, workers=1, provider="inline", data=str(tmp_path / "shards")))
    data = contents(url)[f"runs/{record['run']}/spec.json"]
    place = Spec.decode(data).store
    storage = json.loads(data)["store"]["reference"]
    return url, WorkerRef(place.url, storage, record["run"], 0, 0, 0, sha256(data))


def test_a_duplicate_invocation_is_harmless(finished: tuple[str, WorkerRef]) -> None:
    url, ref = finished
    before = contents(url)
    assert run_worker(ref) == 0
    assert contents(url) == before


def test_another_attempt_makes_the_same_model(finished: tuple[str, WorkerRef]) -> None:
    url, ref = finished
    before = read_run(url, ref.run)
    store = open_storage(url)
    store.delete([*store.list(f"runs/{ref.run}/model/"), f"runs/{ref.run}/result.json"])
    assert run_worker(ref._replace(attempt=1)) == 0
    assert read_run(url, ref.run)["model_sha256"] == before["model_sha256"]


def test_a_specification_that_was_tampered_with_imports_nothing(finished: tuple[str, WorkerRef]) -> None:
    url, ref = finished
    store = open_storage(url)
    key = f"runs/{ref.run}/spec.json"
    spec = json.loads(bytes(store.get(key)))
    spec["model"]["factory"] = "antigravity:fly"
    store.put(key, [json.dumps(spec).encode()])
    before = contents(url)
    log: list[str] = []
    assert run_worker(ref._replace(attempt=1), log=log.append) == 1
    assert "antigravity" not in sys.modules
    added = {k: v for k, v in contents(url).items() if k not in before}
    assert list(added) == [f"runs/{ref.run}/errors/0/0/1.json"]
    assert "not the one" in json.loads(added[f"runs/{ref.run}/errors/0/0/1.json"])["message"]
    assert "Traceback" in log[0]


def test_data_that_changed_after_the_plan(finished: tuple[str, WorkerRef], tmp_path: Path) -> None:
    url, ref = finished
    shards = open_storage(f"file://{tmp_path}/shards")
    manifest = bytes(shards.get("manifest.json"))
    shards.put("manifest.json", [re.sub(rb'"seed": 0', b'"seed": 1', manifest)])
    assert run_worker(ref._replace(attempt=1), log=lambda text: None) == 1
    assert "changed" in json.loads(contents(url)[f"runs/{ref.run}/errors/0/0/1.json"])["message"]


@pytest.mark.parametrize("diverges", [False, True])
def test_no_secret_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverges: bool) -> None:
    """A secret may be any part of a URL; here it is a directory's name, which errors of the storage quote."""
    monkeypatch.setenv("THE_NAME", SECRET)
    events: list[Any] = []
    rate = 1e38 if diverges else 0.1
    keys: dict[str, Any] = {"workers": 2, "optimizer": {"name": "ga_sgd", "learning_rate": rate}}
    job = make_job(f"file://{tmp_path}/store", channel=f"file://{tmp_path}/{{env:THE_NAME}}/channel", **keys)
    if diverges:
        with pytest.raises(WorkerFailed) as caught:
            run_job(job, arrays=cancer(), on_event=events.append)
        events.append([str(caught.value), caught.value.hint])
    else:
        events.append(run_job(job, arrays=cancer(), on_event=events.append))
    assert (tmp_path / SECRET).exists()
    assert SECRET not in json.dumps(events)
    assert SECRET.encode() not in b"".join(contents(f"file://{tmp_path}/store").values())


def test_what_an_sdk_quotes_is_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel whose error has the secret in it: in the record, in the log and in the driver's error it has not."""
    monkeypatch.setenv("THE_NAME", SECRET)

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "partitioned":
            shutil.rmtree(tmp_path / SECRET)
            (tmp_path / SECRET).write_text("a file where a directory should be")

    job = make_job(f"file://{tmp_path}/store", workers=2, channel=f"file://{tmp_path}/{{env:THE_NAME}}")
    with pytest.raises(WorkerFailed) as caught:
        run_job(job, arrays=cancer(), on_event=on_event)
    assert SECRET not in str(caught.value) + str(caught.value.hint)
    stored = contents(f"file://{tmp_path}/store")
    assert SECRET.encode() not in b"".join(stored.values())
    assert any("logs/" in key for key in stored)
    with pytest.raises(StorageDenied) as at_once:  # the file is there already
        run_job(job, arrays=cancer())
    assert SECRET not in "".join(traceback.format_exception(at_once.value))


def test_workers_go_on_without_their_driver(tmp_path: Path) -> None:
    """A driver that is killed leaves workers that end the run; cleaning removes what the driver would have. It waits to
    be killed: else it might see the end of the run before."""
    code = SCRIPT.replace("rounds=10**9", "rounds=300").replace('"partitioned"', '"launched"')
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), "launched", "local"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests:{ROOT}/tests/runs", "TMPDIR": str(tmp_path.parent)},
    )
    assert driver.stdout is not None
    run, workers = json.loads(driver.stdout.readline())
    ends = [os.pidfd_open(pid) for pid in workers]
    driver.kill()
    driver.communicate()
    assert len(workers) == 3
    for fd in ends:
        assert select.select([fd], [], [], WAIT_S)[0]
        os.close(fd)
    record = read_run(f"file://{tmp_path}", run)
    assert (record["status"], record["stop_reason"], record["rounds"]) == ("succeeded", "rounds", 300)
    assert record["model_sha256"] is not None
    assert scratch_of(run).exists()
    assert clean(f"file://{tmp_path}", run) == [run]
    assert not scratch_of(run).exists()
    assert keys_of(tmp_path) == []
