"""What a run may cost and how long it may take: refused before it starts, ended on the way, and gone on with."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from priced_help import pay
from runs_help import cancer, keys_of, make_job, slow_channel

from lambdaml_core.errors import JobError, LimitPassed, OptionError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import watch_run
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.records import RunRecord, list_runs
from lambdaml_core.storage import open_storage

OFTEN: dict[str, Any] = {"checkpoint": {"rounds": 5}, "recovery": {"heartbeat_s": 0.05}}


def start(folder: Path, events: list[Any] | None = None, **keys: Any) -> RunRecord:
    """A run whose driver looks at no limit before there is a checkpoint, however long that takes: where there are some,
    what has passed a limit can be gone on with."""

    def on_event(event: Any) -> None:
        if events is not None:
            events.append(event)
        if event["event"] == "launched" and "checkpoint" in keys:
            there = open_storage(f"file://{folder}/runs/{event['run']}/checkpoints")
            assert there.get_many([f"0/{n:09d}/shared.json" for n in range(5, keys["rounds"], 5)], wait_s=240)
            there.close()

    values = {"workers": 2, "provider": "inline", "channel": slow_channel(folder), **keys}
    return run_job(make_job(folder, **values), arrays=cancer(), on_event=on_event)


@pytest.mark.parametrize(
    ("limits", "words"), [({"cost_usd": 1e-7}, "predicted to cost"), ({"seconds": 1e-3}, "predicted to take")]
)
def test_what_is_predicted_to_pass_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], words: str
) -> None:
    pay(monkeypatch)
    slow = f"fault+file://{tmp_path}/channel?fault_delay=1&fault_delay_s=0.004"
    events: list[Any] = []
    with pytest.raises(JobError, match=words):
        start(tmp_path / "store", events, limits=limits, rounds=10**6, channel=slow)
    assert "launched" not in [event["event"] for event in events]
    assert keys_of(tmp_path / "store") == []


@pytest.mark.parametrize("limits", [{"cost_usd": 0}, {"seconds": -1.0}, {"dollars": 2}])
def test_limits_that_are_none(tmp_path: Path, limits: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="limits"):
        make_job(tmp_path, limits=limits)


def test_a_run_that_costs_too_much_is_ended_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a heartbeat or so, with a model byte for byte that of a run without limits in the end.

    Each of its 60 rounds has two requests of 4 ms one after the other: 0.48 s of two workers cost more than that."""
    pay(monkeypatch)
    keys = OFTEN | {"rounds": 60}
    whole = start(tmp_path / "whole", **keys)
    events: list[Any] = []
    before = set(threading.enumerate())
    with pytest.raises(LimitPassed, match="and may cost") as e:
        start(tmp_path / "run", events, **keys, limits={"cost_usd": 2e-5})
    assert set(threading.enumerate()) <= before
    (record,) = list_runs(f"file://{tmp_path}/run")
    assert "--max-cost" in (e.value.hint or "")
    assert record["status"] == "cancelled"
    assert record["stop_reason"] == e.value.message
    assert record["cost_usd"] > 2e-5
    with pytest.raises(LimitPassed):  # it still is: nothing is started
        resume_run(record["store"], record["run"], on_event=events.append)
    assert [event["event"] for event in events].count("launched") == 1
    done = resume_run(record["store"], record["run"], cost_usd=1.0)
    assert done["status"] == "succeeded"
    assert done["model_sha256"] == whole["model_sha256"]
    assert done["cost_usd"] > record["cost_usd"]


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """By a clock that begins anew where it is resumed."""
    with pytest.raises(LimitPassed, match=r"and may take 0\.5 s") as e:
        start(tmp_path, **OFTEN, rounds=2000, limits={"seconds": 0.5})
    (record,) = list_runs(f"file://{tmp_path}")
    assert (record["status"], record["stop_reason"]) == ("cancelled", e.value.message)
    with pytest.raises(LimitPassed, match=r"and may take 0\.2 s"):
        resume_run(record["store"], record["run"], seconds=0.2)


def test_progress_says_what_it_has_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its driver, and to whoever watches."""
    pay(monkeypatch)
    told: list[Any] = []
    watched: list[Any] = []

    def listen(event: Any) -> None:
        told.append(event)
        if event["event"] == "launched":
            watcher.append(threading.Thread(target=watch, args=(event["run"],)))
            watcher[0].start()

    def watch(run: str) -> None:
        watch_run(f"file://{tmp_path}", run, on_event=watched.append)

    watcher: list[threading.Thread] = []
    keys = {"rounds": 300, "recovery": {"heartbeat_s": 0.05}, "channel": slow_channel(tmp_path)}
    record = run_job(make_job(tmp_path, workers=2, provider="inline", **keys), arrays=cancer(), on_event=listen)
    watcher[0].join()
    for events in (told, watched):
        costs = [event["cost_usd"] for event in events if event["event"] == "progress"]
        assert costs == sorted(costs)
        assert 0 < costs[-1] <= record["cost_usd"]
