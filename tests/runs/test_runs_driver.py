"""Workers that are lost while their driver watches: replaced, or the reason why the run is given up."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from child_processes import children
from held_runs import held
from left_help import check_and_clean
from runs_help import cancer, files_below, make_job, slow_channel

from lambdaml_core.errors import WorkerFailed
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.scratch import retain_bytes
from lambdaml_core.run.records.records import RunRecord, list_runs, read_run, read_spec
from lambdaml_core.run.spec import Spec
from lambdaml_core.storage import open_storage

QUICK: dict[str, Any] = {"heartbeat_s": 0.1}
ROUNDS = 150


class Listener:
    """Hears of a run, and harms its workers at chosen events; lets it go once that is done."""

    def __init__(self, harm: Any, let_go: Callable[[], None] = lambda: None) -> None:
        self.events: list[dict[str, Any]] = []
        self._harm, self._let_go = harm(self), let_go

    def __call__(self, event: Any) -> None:
        self.events.append(dict(event))
        if event["event"] in ("launched", "progress", "restarted") and next(self._harm, self) is self:
            self._let_go()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def send(self, rank: int, number: int) -> int:
        """A signal to the newest process of a rank. Returns its number."""
        word = f'"rank": {rank}'.encode()
        mine: list[int] = []
        while not mine:  # one that has just been started has no command line yet
            assert children(), "the run was over before it could be harmed"
            mine = [pid for pid in children() if word in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(max(mine), number)
        return max(mine)


def harmed(folder: Path, harm: Any, **keys: Any) -> tuple[RunRecord, Listener]:
    """A run that is harmed by two thirds of its rounds, where it waits for that: a driver may be late."""
    with held(folder.with_name("gate"), ROUNDS * 2 // 3) as gate:
        return run(folder, harm, gate.let_go, **gate.keys, **keys)


def run(folder: Path, harm: Any = None, let_go: Any = lambda: None, **keys: Any) -> tuple[RunRecord, Listener]:
    listener = Listener(harm or (lambda _: iter(())), let_go)
    keys = {"workers": 3, "rounds": ROUNDS, "recovery": QUICK, "channel": slow_channel(folder)} | keys
    return run_job(make_job(folder, **keys), arrays=cancer(), on_event=listener), listener


@pytest.fixture(scope="module")
def quiet_sha256(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    return run(tmp_path_factory.mktemp("quiet"), channel=None)[0]["model_sha256"]


@pytest.mark.parametrize("keys", [{}, {"aggregators": "all", "checkpoint": {"rounds": 25}}])
def test_killed_workers_are_replaced_and_the_model_is_the_same(
    tmp_path: Path, keys: dict[str, Any], quiet_sha256: str
) -> None:
    def kill(listener: Listener) -> Iterator[None]:
        for rank in (0, 2):
            while not listener.of("progress"):
                yield
            listener.send(rank, signal.SIGKILL)
            yield

    record, listener = harmed(tmp_path / "store", kill, **keys)
    told = [(e["rank"], e["reason"]) for e in listener.of("restarted")]
    assert sorted(told) == [(0, "killed by SIGKILL"), (2, "killed by SIGKILL")]
    assert record["model_sha256"] == quiet_sha256
    assert (record["status"], record["rounds"], record["restarts"]) == ("succeeded", ROUNDS, 2)
    assert record["exact"]
    rounds = [first for e in listener.of("rounds") for first in range(e["first"], e["first"] + len(e["loss"]))]
    assert rounds == list(range(1, ROUNDS + 1))
    check_and_clean(tmp_path / "store", record["run"])


def test_a_worker_that_sleeps_is_replaced_and_leaves_when_it_wakes(tmp_path: Path, quiet_sha256: str) -> None:
    def stop(listener: Listener) -> Iterator[None]:
        while not listener.of("progress"):
            yield
        before = len(listener.of("restarted"))
        sleeping = listener.send(1, signal.SIGSTOP)
        while not any(e["rank"] == 1 for e in listener.of("restarted")[before:]):
            yield
        os.kill(sleeping, signal.SIGCONT)

    recovery = QUICK | {"deadline_s": 10.0}
    record, listener = harmed(tmp_path / "store", stop, recovery=recovery)
    assert (1, "it has not been heard of for 10 s") in {(e["rank"], e["reason"]) for e in listener.of("restarted")}
    assert record["model_sha256"] == quiet_sha256
    check_and_clean(tmp_path / "store", record["run"])


def failed_run(folder: Path) -> RunRecord:
    (record,) = list_runs(f"file://{folder}")
    assert record["status"] == "failed"
    return record


def test_a_worker_that_gets_no_further_is_given_up(tmp_path: Path) -> None:
    def kill(listener: Listener) -> Iterator[None]:
        while True:
            listener.send(2, signal.SIGKILL)
            yield

    with pytest.raises(WorkerFailed) as caught:
        run(tmp_path, kill, recovery=QUICK | {"restarts": 2}, rounds=10**9)
    said = " has ended 3 times in a row without getting any further: killed by SIGKILL"
    record = failed_run(tmp_path)
    assert caught.value.message == record["stop_reason"] == f"worker 2 of run {record['run']}{said}"
    check_and_clean(tmp_path, record["run"])


def test_an_error_that_would_come_again_ends_the_run_at_once(tmp_path: Path) -> None:
    listener = Listener(lambda _: iter(()))
    job = make_job(tmp_path, workers=2, optimizer={"name": "ga_sgd", "learning_rate": 1e38})
    with pytest.raises(WorkerFailed, match="diverge") as caught:
        run_job(job, arrays=cancer(), on_event=listener)
    assert listener.of("restarted") == []
    record = failed_run(tmp_path)
    assert record["stop_reason"] == caught.value.message
    check_and_clean(tmp_path, record["run"])


def test_without_checkpoints_a_lost_worker_ends_the_run(tmp_path: Path) -> None:
    def kill(listener: Listener) -> Iterator[None]:
        while not listener.of("progress"):
            yield
        listener.send(1, signal.SIGKILL)
        yield

    with pytest.raises(WorkerFailed, match=r"worker 1 .* has ended: killed by SIGKILL") as caught:
        run(tmp_path, kill, checkpoint={"enabled": False}, rounds=10**9, channel=None)
    assert "checkpoint.enabled" in str(caught.value.hint)
    record = failed_run(tmp_path)
    check_and_clean(tmp_path, record["run"])


def test_a_channel_that_is_emptied_is_filled_again_or_a_generation_begins(tmp_path: Path, quiet_sha256: str) -> None:
    """As by a cache that is restarted: the model is the same."""
    channel = tmp_path / "store-channel"

    def empty(listener: Listener) -> Iterator[None]:
        for count in (1, 2):
            while len(listener.of("progress")) < count:
                yield
            for path in files_below(channel):
                path.unlink(missing_ok=True)
            yield

    keys = {"recovery": QUICK | {"deadline_s": 8.0}, "checkpoint": {"rounds": 40}}
    record, _ = run(tmp_path / "store", empty, **keys)
    assert record["model_sha256"] == quiet_sha256
    assert read_run(f"file://{tmp_path}/store", record["run"])["status"] == "succeeded"
    check_and_clean(tmp_path / "store", record["run"])


def test_the_specification_leaves_nothing_open(tmp_path: Path) -> None:
    """How many bytes of results are kept, and how often workers give signs of life, by the size of a message."""

    def spec_of(name: str, **keys: Any) -> Spec:
        record = run_job(make_job(tmp_path / name, workers=1, rounds=1, provider="inline", **keys), arrays=cancer())
        with contextlib.closing(open_storage(f"file://{tmp_path}/{name}")) as store:
            return read_spec(store, record["run"])

    usual = spec_of("usual")
    assert (usual.checkpoint.retain_bytes, usual.recovery.heartbeat_s) == (64 << 20, 1.0)
    chosen = spec_of("chosen", checkpoint={"retain_bytes": 4096}, recovery={"heartbeat_s": 0.3})
    assert (chosen.checkpoint.retain_bytes, chosen.recovery.heartbeat_s) == (4096, 0.3)
    assert retain_bytes(make_job(tmp_path), 100 << 20) == 800 << 20
