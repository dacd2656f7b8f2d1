"""Runs whose driver is gone, or that have failed or been cancelled, go on; the model is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import left_help
import pytest
from held_runs import Gate, held
from runs_help import ROOT, cancer, make_job, scratch_of, slow_channel

from lambdaml_core.errors import RunCancelled, RunError, RunNotFound, WorkerFailed
from lambdaml_core.provider import processes
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import cancel_run
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.attempts import newest_generation
from lambdaml_core.run.records.records import list_runs, read_run
from lambdaml_core.run.spec import run_store
from lambdaml_core.storage import open_storage

KEYS: dict[str, Any] = {"workers": 3, "rounds": 200, "checkpoint": {"rounds": 20}, "recovery": {"heartbeat_s": 0.1}}

DRIVER = """
import json, os, signal, sys
from runs_help import cancer, make_job
from lambdaml_core.run.driver.driver import run_job

def tell(event):
    if event["event"] == sys.argv[3] and event.get("round", 0) >= int(sys.argv[4]):
        print(event["run"], flush=True)
        signal.pause()

run_job(make_job(sys.argv[1], **json.loads(sys.argv[2])), arrays=cancer(), on_event=tell)
"""


@pytest.fixture
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Half-way; else a run might end before it is harmed, if whoever harms it comes late."""
    with held(tmp_path_factory.mktemp("gate"), KEYS["rounds"] // 2) as gate:
        yield gate


def slowly(store: Path, **keys: Any) -> dict[str, Any]:
    """The same job, with rounds that take their time."""
    return KEYS | {"channel": slow_channel(store)} | keys


def killed_driver(store: Path, moment: str, round: int = 0, **keys: Any) -> str:
    """A run whose driver was killed at this event, while its workers go on. Returns its name."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(store), json.dumps(slowly(store, **keys)), moment, str(round)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests:{ROOT}/tests/runs"},
    )
    assert driver.stdout is not None
    run = driver.stdout.readline().strip()
    driver.kill()
    driver.communicate()
    return run


def handles(store: Path, run: str) -> list[str]:
    """Of the processes of a run that live."""
    opened = open_storage(f"file://{store}")
    mine = run_store(opened, run)
    found = [json.loads(bytes(mine.get(key)))["handle"] for key in mine.list("attempts/")]
    opened.close()
    return [handle for handle in found if processes.state_of(handle) == "running"]


def generation_of(store: Path, run: str) -> int:
    opened = open_storage(f"file://{store}")
    number = newest_generation(run_store(opened, run))
    opened.close()
    return number


def check_and_clean(folder: Path, name: str) -> None:
    """As the driver's; and none of the processes that others have started lives."""
    assert handles(folder, name) == []
    left_help.check_and_clean(folder, name)


@pytest.fixture(scope="module")
def quiet_sha256(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    folder = tmp_path_factory.mktemp("quiet")
    return run_job(make_job(folder, **KEYS), arrays=cancer())["model_sha256"]


def test_living_workers_are_taken_over_and_dead_ones_replaced(tmp_path: Path, quiet_sha256: str, gate: Gate) -> None:
    run = killed_driver(tmp_path, "progress", 20, **gate.keys)
    living = handles(tmp_path, run)
    assert len(living) == 3
    assert processes.send(living[0], signal.SIGKILL)
    gate.let_go()
    events: list[Any] = []
    record = resume_run(f"file://{tmp_path}", run, on_event=events.append)
    assert (record["status"], record["model_sha256"], record["exact"]) == ("succeeded", quiet_sha256, True)
    assert generation_of(tmp_path, run) == 0
    assert [e["reason"] for e in events if e["event"] == "restarted"] == ["its process is gone"]
    told = [n for e in events if e["event"] == "rounds" for n in range(e["first"], e["first"] + len(e["loss"]))]
    assert told == list(range(1, KEYS["rounds"] + 1))
    with pytest.raises(RunError, match="has succeeded"):
        resume_run(f"file://{tmp_path}", run)
    check_and_clean(tmp_path, run)


@pytest.mark.parametrize("round", [0, 60])
def test_where_no_worker_lives_all_start_again(tmp_path: Path, quiet_sha256: str, round: int, gate: Gate) -> None:
    run = killed_driver(tmp_path, "progress" if round else "launched", round, **gate.keys)
    while living := handles(tmp_path, run):
        for handle in living:
            processes.send(handle, signal.SIGKILL)
    gate.let_go()
    record = resume_run(f"file://{tmp_path}", run)
    assert (record["status"], record["model_sha256"]) == ("succeeded", quiet_sha256)
    check_and_clean(tmp_path, run)


def test_a_run_without_its_driver_comes_to_an_end_that_is_finished(tmp_path: Path, quiet_sha256: str) -> None:
    run = killed_driver(tmp_path, "progress", 1, channel=None)
    while handles(tmp_path, run):
        os.sched_yield()
    assert scratch_of(run).exists()
    record = resume_run(f"file://{tmp_path}", run)
    assert (record["status"], record["model_sha256"]) == ("succeeded", quiet_sha256)
    assert generation_of(tmp_path, run) == 0
    check_and_clean(tmp_path, run)


class Stop(Exception):
    """Of a listener."""


def cancelled_run(store: Path, after: int, **keys: Any) -> str:
    """A run that its listener has cancelled."""

    def listen(event: Any) -> None:
        if event["event"] == "progress" and event["round"] > after:
            raise Stop

    with pytest.raises(Stop):
        run_job(make_job(store, **slowly(store, **keys)), arrays=cancer(), on_event=listen)
    (record,) = list_runs(f"file://{store}")
    assert record["status"] == "cancelled"
    return str(record["run"])


@pytest.mark.parametrize("provider", ["local", "inline"])
def test_a_cancelled_run_goes_on(tmp_path: Path, provider: str) -> None:
    quiet = run_job(make_job(tmp_path / "quiet", **KEYS, provider=provider), arrays=cancer())
    store = tmp_path / "store"
    run = cancelled_run(store, 40, provider=provider)
    record = resume_run(f"file://{store}", run)
    assert (record["status"], record["model_sha256"]) == ("succeeded", quiet["model_sha256"])
    assert generation_of(store, run) == 1
    check_and_clean(store, run)


def test_a_failed_run_goes_on_once_what_was_wrong_is_mended(tmp_path: Path, quiet_sha256: str, gate: Gate) -> None:
    store = tmp_path / "store"

    def listen(event: Any) -> None:
        if event["event"] == "progress" and event["round"] > 40:
            for handle in handles(store, event["run"]):
                processes.send(handle, signal.SIGKILL)
            gate.let_go()

    keys = slowly(store, recovery={"heartbeat_s": 0.1, "restarts": 0}, **gate.keys)
    with pytest.raises(WorkerFailed, match="killed by SIGKILL"):
        run_job(make_job(store, **keys), arrays=cancer(), on_event=listen)
    (failed,) = list_runs(f"file://{store}")
    assert failed["status"] == "failed"
    record = resume_run(f"file://{store}", failed["run"])
    assert (record["status"], record["stop_reason"]) == ("succeeded", "rounds")
    assert record["model_sha256"] == quiet_sha256
    check_and_clean(store, failed["run"])


def test_a_run_whose_rows_are_gone(tmp_path: Path) -> None:
    """Nothing is kept of a run that ends before its first checkpoint but what it has told."""
    run = cancelled_run(tmp_path, 0, checkpoint={"rounds": 10**6}, rounds=10**6)
    with pytest.raises(RunError, match=r"rows .* are gone"):
        resume_run(f"file://{tmp_path}", run)
    assert read_run(f"file://{tmp_path}", run)["status"] == "cancelled"
    check_and_clean(tmp_path, run)


def test_a_run_that_goes_on_is_not_resumed_and_can_be_cancelled(tmp_path: Path) -> None:
    seen: list[str] = []

    def listen(event: Any) -> None:
        if event["event"] == "progress" and not seen:
            with pytest.raises(RunError, match="its driver lives") as caught:
                resume_run(f"file://{tmp_path}", event["run"])
            seen.append(str(caught.value.hint))

    job = make_job(tmp_path, **slowly(tmp_path))
    record = run_job(job, arrays=cancer(), on_event=listen)
    assert seen == [f"lambdaml watch {record['run']}"]
    with pytest.raises(RunNotFound):
        resume_run(f"file://{tmp_path}", "20250131-235959-nobody")


def test_an_orphan_is_cancelled_and_resumed(tmp_path: Path) -> None:
    run = killed_driver(tmp_path, "progress", 60, rounds=10**9)  # where the checkpoint of round 20 has been written
    assert cancel_run(f"file://{tmp_path}", run)["status"] == "cancelled"
    assert handles(tmp_path, run) == []

    def listen(event: Any) -> None:
        if event["event"] == "progress" and event["round"] > 100:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(RunCancelled):
        resume_run(f"file://{tmp_path}", run, on_event=listen)
    assert read_run(f"file://{tmp_path}", run)["status"] == "cancelled"
    check_and_clean(tmp_path, run)


def test_a_driver_that_was_replaced_leaves_everything_alone(tmp_path: Path, quiet_sha256: str, gate: Gate) -> None:
    """As one that was stopped for so long that somebody has resumed its run, and that then wakes."""
    code = DRIVER.replace("signal.pause()", "os.kill(os.getpid(), signal.SIGSTOP)")
    sleeper = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(slowly(tmp_path, **gate.keys)), "progress", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests:{ROOT}/tests/runs"},
    )
    assert sleeper.stdout is not None
    run = sleeper.stdout.readline().strip()
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)  # it does that after it has said its name
    store = open_storage(f"file://{tmp_path}")
    mine = run_store(store, run)
    sign = json.loads(bytes(mine.get("driver.json")))
    mine.put("driver.json", [json.dumps(sign | {"time_s": sign["time_s"] - 60}).encode()])
    store.close()

    def wake(event: Any) -> None:
        if event["event"] == "launched":
            sleeper.send_signal(signal.SIGCONT)
            _, errors = sleeper.communicate()
            assert f"another process drives the run {run} now" in errors
            gate.let_go()

    record = resume_run(f"file://{tmp_path}", run, on_event=wake)
    assert (record["status"], record["model_sha256"]) == ("succeeded", quiet_sha256)
    check_and_clean(tmp_path, run)
