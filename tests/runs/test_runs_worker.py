"""Workers as threads on a real store: whatever becomes of single attempts, the model is the undisturbed one's."""

from __future__ import annotations

import functools
import itertools
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from workers_help import Counted, Run, Threads, quiet_sha256

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.records.attempts import beat_key, claim_key, end_key, open_generation
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.run.spec import PROGRESS, RESULT, SPEC, Recovery, get_json

GA: dict[str, Any] = {"rounds": 120}
MA: dict[str, Any] = {
    "rounds": 60,
    "aggregators": 3,
    "optimizer": {"name": "ma_sgd", "learning_rate": 0.1, "local_steps": 5, "momentum": 0.9, "keep_momentum": True},
}
JOBS = {"ga": GA, "ma": MA}
OFTEN = {"checkpoint": {"rounds": 10}}
SOON = Recovery(deadline_s=0.4, heartbeat_s=0.1)
"""For one that waits for what nobody will send; too short for several that start one after the other."""


@functools.cache
def quiet(job: str) -> str:
    """The model of a run that nobody disturbs."""
    with tempfile.TemporaryDirectory() as folder:
        return quiet_sha256(Path(folder), JOBS[job])


def check(run: Run, threads: Threads, job: str) -> None:
    """All has come out as in an undisturbed run, and every round was told once."""
    assert run.result()["files"][WEIGHTS] == quiet(job)
    assert {code for _, _, code in threads.codes} == {0}
    assert run.read("errors/") == {}
    assert threads.logs == []
    told = [r for e in run.events("rounds") for r in range(e["first"], e["first"] + len(e["loss"]))]
    assert told == list(range(1, run.spec.rounds + 1))
    looks = [r for r in told if r % run.spec.evaluate == 0 or r == run.spec.rounds]
    assert [e["round"] for e in run.events("epoch")] == looks


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the limits of all attempts, or of one after the other in turn."""

    def set_limits(*limits: Mapping[str, Any]) -> None:
        kinds = itertools.cycle([type("Limit", (Counted,), dict(limit)) for limit in limits])
        monkeypatch.setattr("lambdaml_core.run.worker.attempt.TimeLimit", lambda remaining_s: next(kinds)(remaining_s))

    return set_limits


@pytest.mark.parametrize(("job", "copies"), [("ga", 1), ("ma", 2)])
def test_a_time_limit(tmp_path: Path, limits: Callable[..., None], job: str, copies: int) -> None:
    """Wherever it falls; and whoever starts a successor may do so twice."""
    in_waits, in_work = {"looks": {"wait": 10}, "rounds": 16}, {"looks": {"work": 67}, "rounds": 16}
    limits({"rounds": 7}, in_waits, {"rounds": 11}, in_work, in_waits)
    run = Run(tmp_path, **JOBS[job], **OFTEN)
    threads = Threads(run, copies=copies).start().wait()
    check(run, threads, job)
    handovers = run.read("handovers/")
    assert len(handovers) >= 6
    ends = run.read("ends/")
    assert sum(end["totals"]["successions"] for end in ends.values()) == len(handovers)
    assert sum(end["totals"]["attempts"] for end in ends.values()) == len(handovers) + run.spec.workers
    assert len(run.read("attempts/")) == len(handovers) + run.spec.workers  # no duplicate has claimed anything
    assert all(len(end["totals"]["fingerprints"]) == 1 for end in ends.values())


@pytest.mark.parametrize("job", ["ga", "ma"])
def test_leaving_in_a_wait(tmp_path: Path, limits: Callable[..., None], job: str) -> None:
    """For a rank that only begins once others have left, in the middle of their first collectives."""
    limits({"looks": {"wait": 5}})
    run = Run(tmp_path, **JOBS[job])

    class LastOne(Threads):
        def launch(self, ref: WorkerRef) -> str:
            if ref.attempt == 2 and ref.rank == 0:
                limits({})
                super().launch(run.ref(2))
            return super().launch(ref)

    threads = LastOne(run)
    for rank in (0, 1):
        threads.launch(run.ref(rank))
    check(run, threads.wait(), job)
    left = run.read("handovers/0/0/")
    assert [record["round"] for record in left.values()] == [0, 0]
    assert all(record["progress"] for record in left.values())


def test_a_round_that_does_not_fit(tmp_path: Path, limits: Callable[..., None]) -> None:
    """It is left between two local steps, once more, and then the run is told why."""
    limits({"looks": {"work": 50}})
    steps = {"name": "ma_sgd", "learning_rate": 0.1, "local_steps": 1_000_000}
    run = Run(tmp_path, workers=1, rounds=2, optimizer=steps)
    threads = Threads(run).start().wait()
    assert sorted(threads.codes) == [(0, 0, 0), (0, 1, 1)]
    (error,) = run.read("errors/").values()
    assert (error["code"], error["again"]) == ("run", False)
    assert "two processes in a row reached their time limit in round 1" in error["message"]


def test_too_many_successions(tmp_path: Path, limits: Callable[..., None]) -> None:
    limits({"rounds": 1})
    run = Run(tmp_path, workers=1, recovery={"heartbeat_s": 0.1, "successions": 2})
    threads = Threads(run).start().wait()
    assert sorted(threads.codes) == [(0, 0, 0), (0, 1, 0), (0, 2, 1)]
    (error,) = run.read("errors/").values()
    assert "handed over more than 2 times" in error["message"]
    assert not error["again"]


def test_leaving_in_a_wait_without_checkpoints(tmp_path: Path, limits: Callable[..., None]) -> None:
    """Nobody could go on from there."""
    limits({"looks": {"wait": 5}})
    run = Run(tmp_path, workers=2, checkpoint={"enabled": False})
    threads = Threads(run)
    threads.launch(run.ref(0))
    threads.wait()
    (error,) = run.read("errors/").values()
    assert error["hint"] == "set checkpoint.enabled = true"


def test_a_limit_without_checkpoints(tmp_path: Path, limits: Callable[..., None]) -> None:
    """Between two rounds it can be left all the same."""
    limits({"rounds": 25})
    run = Run(tmp_path, **GA, checkpoint={"enabled": False})
    check(run, Threads(run).start().wait(), "ga")
    assert len(run.read("handovers/")) == 12


def test_two_invocations_of_each_attempt(tmp_path: Path) -> None:
    run = Run(tmp_path, **GA)
    threads = Threads(run).start().start().wait()
    check(run, threads, "ga")
    assert len(run.read("attempts/")) == 3
    assert [end["totals"]["attempts"] for end in run.read("ends/").values()] == [1, 1, 1]


class Frozen(threading.Event):
    """Whoever looks whether it was set stands still until it is let go; but for the thread that gives signs of life,
    which might overwrite a newer one with what it was about to say."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.after = 150  # looks

    def is_set(self) -> bool:
        if threading.current_thread().name != "heart":
            self.after -= 1
            if self.after < 0:
                self.reached.set()
                assert self.go_on.wait(240)
        return super().is_set()


@pytest.mark.parametrize("rank", [0, 1])
def test_an_old_attempt_that_wakes(tmp_path: Path, rank: int) -> None:
    """Its work is done meanwhile: it leaves without a word."""
    run = Run(tmp_path, **GA, **OFTEN)
    threads, stop = Threads(run), Frozen()
    threads.stops[rank, 0] = stop
    threads.start()
    assert stop.reached.wait(240)
    threads.launch(run.ref(rank, attempt=1))
    assert run.store.get_many([end_key(0, rank)], wait_s=240)
    assert get_json(run.store, end_key(0, rank))["attempt"] == 1
    stop.go_on.set()
    check(run, threads.wait(), "ga")
    assert get_json(run.store, end_key(0, rank))["attempt"] == 1
    assert get_json(run.store, beat_key(0, rank))["attempt"] == 1
    assert get_json(run.store, PROGRESS)["round"] == run.spec.rounds


def test_a_newer_generation(tmp_path: Path) -> None:
    """All of the old one leave, even in a wait; the new one does it all again from its base."""
    run = Run(tmp_path, **GA)
    threads, stop = Threads(run), Frozen()
    threads.stops[2, 0] = stop
    threads.start()
    assert stop.reached.wait(240)
    open_generation(run.store, 1, "as a test", None)
    threads.wait(0).wait(1)  # before the last rank goes on, and all could come to their end before they know
    stop.go_on.set()
    threads.wait().start(generation=1).wait()
    check(run, threads, "ga")
    assert sorted(run.read("ends/")) == [end_key(1, rank) for rank in range(3)]
    assert [end["totals"]["attempts"] for end in run.read("ends/").values()] == [2, 2, 2]


def test_an_attempt_whose_results_others_have_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read an old checkpoint just before newer ones came: it takes one of these, and needs no new generation."""
    run = Run(tmp_path, **GA, **OFTEN)
    threads = Threads(run).start().wait()
    run.change(recovery=SOON)
    run.store.delete([RESULT, end_key(0, 1)])
    newest = Checkpoints.newest
    looks: list[Checkpoint | None] = []

    def late(self: Checkpoints) -> Checkpoint | None:
        looks.append(newest(self) if looks else None)
        return looks[-1]

    monkeypatch.setattr(Checkpoints, "newest", late)
    threads.launch(run.ref(1, attempt=1))
    threads.wait()
    assert {code for _, _, code in threads.codes} == {0}
    assert len(looks) == 2
    assert get_json(run.store, end_key(0, 1))["attempt"] == 1


def test_results_that_are_lost(tmp_path: Path) -> None:
    """Where there is no newer checkpoint the driver is told."""
    run = Run(tmp_path, rounds=30)
    threads = Threads(run).start().wait()
    run.change(recovery=SOON)
    channel = run.spec.channel.open()
    channel.delete(list(channel.list("")))
    run.store.delete([end_key(0, 1)])
    threads.launch(run.ref(1, attempt=1))
    threads.wait()
    assert threads.codes[-1] == (1, 1, 1)
    (error,) = run.read("errors/0/1/").values()
    assert (error["code"], error["again"]) == ("result_lost", True)
    assert "is nowhere" in error["message"]


def test_an_error_that_another_attempt_would_have_too(tmp_path: Path) -> None:
    run = Run(tmp_path, workers=1)
    run.store.put(SPEC, [b"{}"])
    Threads(run).start().wait()
    (error,) = run.read("errors/").values()
    assert not error["again"]


def test_the_claims_are_the_registry(tmp_path: Path) -> None:
    run = Run(tmp_path, rounds=3)
    Threads(run).start().wait()
    handles = [get_json(run.store, claim_key(0, rank, 0))["handle"] for rank in range(3)]
    assert handles == ["0/0", "1/0", "2/0"]
