"""Asynchronous runs: no update is lost, whatever becomes of the workers, and nobody is too far ahead."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from async_help import GA, MA, check_slots
from held_runs import held
from runs_help import cancer, make_job
from workers_help import RUN, Counted, Run, Threads, quiet_sha256

from lambdaml_core.errors import JobError, OptionError
from lambdaml_core.run.driver.chaos import run_chaos
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.attempts import open_generation
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.run.spec import RESULT, run_channel
from lambdaml_core.run.worker import attempt


@pytest.fixture(scope="module")
def in_step(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, float]:
    """By optimizer, the loss of the run whose workers wait for each other."""
    losses = {}
    for optimizer in (GA, MA):
        run = Run(tmp_path_factory.mktemp("in-step"), rounds=80, optimizer=optimizer | {"asynchronous": False})
        Threads(run).start().wait()
        losses[str(optimizer["name"])] = float(run.result()["train_loss"])
    return losses


@pytest.mark.parametrize("staleness", [None, 1, 3])
@pytest.mark.parametrize("optimizer", [GA, MA], ids=["ga", "ma"])
def test_a_run(tmp_path: Path, optimizer: dict[str, Any], staleness: int | None, in_step: Mapping[str, float]) -> None:
    run = Run(tmp_path, rounds=80, optimizer={**optimizer, "staleness": staleness})
    Threads(run).start().wait()
    result = check_slots(run)
    figures = result["round_figures"]
    assert result["stop_reason"] == "rounds"
    assert figures["staleness"] <= figures["staleness_max"]
    assert staleness is None or figures["staleness_max"] <= staleness
    assert result["train_loss"] < 1.25 * in_step[optimizer["name"]]
    columns = [event["figures"] for event in run.events("rounds")]
    assert all(set(each) >= {"staleness", "staleness_max"} for each in columns)
    assert staleness is None or max(v for each in columns for v in each["staleness_max"]) <= staleness


@pytest.mark.parametrize("optimizer", [GA, MA], ids=["ga", "ma"])
def test_without_staleness_all_is_as_ever(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    in_step: list[dict[str, Any]] = [{"asynchronous": False}, {"staleness": 0}]
    shas = [
        quiet_sha256(tmp_path / str(n), {"rounds": 20, "optimizer": optimizer | changes})
        for n, changes in enumerate(in_step)
    ]
    assert shas[0] == shas[1]


def test_one_worker_waits_for_nobody_anyway(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"rounds": 20, "workers": 1}
    shas = [quiet_sha256(tmp_path / str(n), keys | {"optimizer": GA | {"asynchronous": n == 1}}) for n in range(2)]
    assert shas[0] == shas[1]


@pytest.mark.parametrize("looks", [{"wait": 5}, {"work": 15}, {}], ids=["wait", "work", "boundary"])
def test_successors_go_on_from_the_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: Mapping[str, float]
) -> None:
    """Each process does a few rounds only; its successor finds where it was."""
    monkeypatch.setattr(attempt, "TimeLimit", Counted)
    monkeypatch.setattr(Counted, "looks", looks)
    monkeypatch.setattr(Counted, "rounds", float("inf") if looks else 6.0)
    run = Run(tmp_path, rounds=40, optimizer=GA | {"staleness": 1}, provider="inline")
    threads = Threads(run)
    for rank in (0, 1):
        threads.launch(run.ref(rank))
    if "wait" in looks:
        threads.wait(0)  # for rank 2, in vain: without it nothing says that anybody ever waits
    threads.launch(run.ref(2))
    threads.wait()
    assert all(code == 0 for _, _, code in threads.codes), threads.logs
    assert len(threads.codes) > 3, "none has had a successor"
    check_slots(run)


def test_twins_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every successor is started three times."""
    monkeypatch.setattr(attempt, "TimeLimit", Counted)
    monkeypatch.setattr(Counted, "looks", {})
    monkeypatch.setattr(Counted, "rounds", 8.0)
    run = Run(tmp_path, rounds=40, optimizer=GA | {"staleness": 2})
    threads = Threads(run, copies=3).start().wait()
    assert all(code == 0 for _, _, code in threads.codes), threads.logs
    check_slots(run)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [({"loss": 0.3}, "loss"), ({"improvement": 0.9, "patience": 2}, "no improvement"), ({"seconds": 1e-9}, "seconds")],
)
def test_rank_0_ends_the_run(tmp_path: Path, stop: dict[str, Any], reason: str) -> None:
    # whoever is as far ahead as that waits for rank 0, however late it comes
    run = Run(tmp_path, rounds=5000, evaluate=2, optimizer=GA | {"staleness": 5}, stop=stop)
    threads = Threads(run).start().wait()
    assert sorted(code for _, _, code in threads.codes) == [0] * 3, threads.logs
    result = check_slots(run)
    assert result["stop_reason"] == reason
    assert result["rounds"] < 2500


def test_it_diverges(tmp_path: Path) -> None:
    run = Run(tmp_path, rounds=400, optimizer=GA | {"learning_rate": 1e38})
    Threads(run).start().wait()
    messages = [error["message"] for error in run.read("errors/").values()]
    assert messages
    assert all("training diverged" in message or "messages" in message for message in messages)


# --- with a driver ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["inline", "local"])
def test_with_a_driver(tmp_path: Path, provider: str) -> None:
    record = run_job(make_job(tmp_path, workers=3, rounds=60, optimizer=GA, provider=provider), arrays=cancer())
    assert (record["status"], record["exact"]) == ("succeeded", False)
    assert record["accuracy"] is not None
    assert record["accuracy"] > 0.9


def test_a_cancelled_run_goes_on_from_the_slots_it_has_kept(tmp_path: Path) -> None:
    """Its channel is gone, but not what its workers had done. At clock 50 they wait to be cancelled, with at least 25
    rounds of the run done, even if one of them has done none."""
    keys = {"rounds": 150, "checkpoint": {"rounds": 3}, "recovery": {"heartbeat_s": 0.1}}
    channel = f"fault+file://{tmp_path}/channel?fault_delay=1&fault_delay_s=0.004"
    optimizer = GA | {"name": "own_ga_sgd"}

    class Enough(Exception):
        pass

    def stop(event: Event) -> None:
        if event["event"] == "progress" and event["round"] >= 20:
            raise Enough

    told: list[Event] = []
    with held(tmp_path / "gate", 50) as gate:
        job = make_job(tmp_path / "store", workers=2, channel=channel, optimizer=optimizer, code=gate.code, **keys)
        with pytest.raises(Enough):
            run_job(job, arrays=cancer(), on_event=stop)
        gate.let_go()
        (run,) = list_runs(f"file://{tmp_path}/store")
        record = resume_run(f"file://{tmp_path}/store", run["run"], on_event=told.append)
    assert (record["status"], record["generation"]) == ("succeeded", 1)
    assert record["rounds"] >= 150
    assert [e["round"] for e in told if e["event"] == "epoch"][-1] == record["rounds"]


def test_another_generation_goes_on_from_the_slots_that_were_kept(tmp_path: Path) -> None:
    """Although the channel is empty; it makes next to none of the updates again."""
    run = Run(tmp_path, rounds=60, optimizer=GA | {"staleness": 2}, checkpoint={"rounds": 1})  # each does its share
    Threads(run).start().wait()
    before = check_slots(run)
    with contextlib.closing(run.spec.channel.open()) as channel:
        run_channel(channel, RUN).sweep()
    run.store.delete([RESULT])
    assert open_generation(run.store, 1, "the channel has lost a slot", None)
    Threads(run).start(generation=1).wait()
    after = run.result()["round_figures"]["updates"]
    assert before["round_figures"]["updates"] - 6 <= after
    for rank in range(3):
        ends = [run.read(f"ends/{g}/")[f"ends/{g}/{rank}.json"] for g in range(2)]
        puts = [end["totals"]["channel"]["put"] for end in ends]
        assert puts[1] - puts[0] < 30 < puts[0]


# --- words ------------------------------------------------------------------------------------------------------


def test_the_word_of_the_paper() -> None:
    for values in ({}, {"optimizer": "ga_sgd"}, {"optimizer": {"name": "ma_sgd", "staleness": 3}}):
        job = Job.from_mapping({"store": "memory://x", "aggregators": "async", **values})
        assert job.optimizer.values["asynchronous"] is True
        assert job.aggregators == 1
        assert job.optimizer.build().asynchronous
    assert job.optimizer.values["staleness"] == 3


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"name": "ga_sgd", "asynchronous": True, "momentum": 0.9}, "cannot have momentum"),
        ({"name": "ga_sgd", "asynchronous": True, "l1": 0.1}, "cannot have l1"),
        ({"name": "ma_sgd", "asynchronous": True, "momentum": 0.9, "keep_momentum": True}, "cannot keep"),
        ({"name": "ma_sgd", "staleness": 1}, "staleness needs asynchronous"),
    ],
)
def test_what_makes_no_sense_is_refused(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Job.from_mapping({"store": "memory://x", "optimizer": optimizer})
    assert caught.value.hint
    Job.from_mapping({"store": "memory://x", "optimizer": optimizer | {"asynchronous": True, "staleness": 0}})


def test_chaos_compares_bytes(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="never the same bytes"):
        run_chaos(make_job(tmp_path, optimizer=GA, data=str(tmp_path)), 1)
