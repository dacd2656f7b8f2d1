"""A job under kills gives the model that it gives without; real processes, real SIGKILLs."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from held_runs import Gate, held
from hypothesis import given
from hypothesis import strategies as st
from runs_help import ROOT, cancer, files_below, keys_of, make_job, scratch_of, write_libsvm

from lambdaml_core.errors import JobError, RunError
from lambdaml_core.provider import processes
from lambdaml_core.run.driver import chaos
from lambdaml_core.run.driver.chaos import moments, run_chaos
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.attempts import run_end_key
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.run.spec import DRIVER

SLOW = os.environ.get("LAMBDAML_SLOW") == "1"
FULL = [(optimizer, aggregators) for optimizer in ("ga_sgd", "ma_sgd") for aggregators in (1, 4)]


def nothing_is_left(store: Path) -> None:
    """After ``clean``: no key, no directory of messages, no process."""
    runs = [record["run"] for record in list_runs(store.as_uri())]
    assert sorted(clean(store.as_uri())) == sorted(runs)
    assert keys_of(store) == []
    assert files_below(store) == []
    assert not any(scratch_of(run).exists() for run in runs)
    marks = [mark for mark in _marks() if mark.partition("/")[0] in runs]
    assert marks == []


def _marks() -> list[str]:
    """Of all processes that this user may look at."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [word.partition("=")[2] for word in words if word.startswith(f"{processes.MARK}=")]
    return found


@given(st.integers(1, 60), st.integers(1, 10_000))
def test_moments_rise_over_the_run_and_one_in_ten_is_the_driver_s(kills: int, rounds: int) -> None:
    found = moments(kills, rounds)
    after = [round for round, _ in found]
    assert len(found) == kills
    assert after == sorted(after)
    assert 0 <= after[0] <= after[-1] < 0.9 * rounds
    drivers = sum(driver for _, driver in found)
    assert max(1, kills // 10) <= drivers <= 1 + kills / 10


class Fire:
    """Takes the events of both runs; the second does a share of its rounds more for each kill, however late that is."""

    def __init__(self, gate: Gate, rounds: Sequence[int]) -> None:
        self.events: list[dict[str, Any]] = []
        self._gate, self._rounds = gate, list(rounds)
        gate.let_go()

    def note(self, event: Mapping[str, Any]) -> None:
        self.events.append(dict(event))
        if event["event"] == "launched" and event["run"] != self.events[0]["run"]:
            self._gate.shut()
        if event["event"] == "killed":
            self._gate.let_go(self._rounds.pop(0))


@pytest.mark.parametrize(("optimizer", "aggregators"), FULL if SLOW else [("ga_sgd", 4)])
def test_the_model_is_the_same_after_kills(optimizer: str, aggregators: int, tmp_path: Path) -> None:
    """The example, which is short where it is not asked to be thorough."""
    changes: dict[str, Any] = {"store": str(tmp_path / "store"), "aggregators": aggregators, "rounds": 6000}
    kills = 30
    if not SLOW:
        kills, changes["rounds"], changes["workers"], changes["aggregators"] = 4, 2000, 2, 2
    ends = [math.ceil((n + 1) * changes["rounds"] * 0.85 / kills) for n in range(kills)]  # by then each kill is due
    with held(tmp_path / "held", *ends) as gate:
        job = Job.from_toml(
            ROOT / "examples" / "chaos.toml", {**changes, "optimizer": f"own_{optimizer}", "code": gate.code}
        )
        fire = Fire(gate, ends)
        record = run_chaos(job, kills, on_event=fire.note)
    events = fire.events
    assert record["equal"]
    assert record["exact"]
    assert record["status"] == "succeeded"
    assert record["model_sha256"] == record["quiet_sha256"] is not None
    assert record["kills"] == len(record["killed"]) == kills
    drivers = [kill for kill in record["killed"] if kill["what"] == "driver"]
    assert record["driver_kills"] == len(drivers) == max(1, kills // 10)
    assert record["restarts"] >= 1
    assert record["overhead"] > -1
    told = [
        {name: event[name] for name in kill} for event in events if event["event"] == "killed" for kill in drivers[:1]
    ]
    assert told == record["killed"]
    at = [kill["at_s"] for kill in record["killed"]]
    assert at == sorted(at)
    rounds = {
        run: [e["first"] for e in events if e["event"] == "rounds" and e["run"] == run]
        for run in (record["run"], record["quiet_run"])
    }
    assert all(first == sorted(set(first)) and first[0] == 1 for first in rounds.values())
    nothing_is_left(tmp_path / "store")


def test_a_run_that_is_over_before_all_kills_were_made(tmp_path: Path) -> None:
    job = make_job(tmp_path / "store", data=str(write_libsvm(tmp_path / "rows.libsvm")), workers=2, rounds=3)
    with pytest.raises(RunError, match=r"was over after \d+ of 40 kills") as e:
        run_chaos(job, 40)
    assert e.value.hint == "give it more rounds or epochs, or make fewer kills"
    nothing_is_left(tmp_path / "store")


@pytest.mark.parametrize("ended", [False, True])
def test_a_driver_that_was_killed_at_the_very_end(ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it had written down how the run ended, or after."""
    store = (tmp_path / "store").as_uri()
    run = run_job(make_job(store, workers=2, rounds=3), arrays=cancer())["run"]
    records = tmp_path / "store" / "runs" / run
    (records / DRIVER).unlink()  # it lives, here
    end = records / run_end_key(0)
    if not ended:
        end.unlink()
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"store": store, "run": run})))
    chaos.main()
    assert json.loads(end.read_bytes())["status"] == "succeeded"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provider": "inline"}, "workers of the provider inline cannot be killed"),
        ({"checkpoint": {"enabled": False}}, "a worker that is lost ends the run"),
        ({}, "data.source must be given"),
    ],
)
def test_what_is_refused_before_anything_runs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=message):
        run_chaos(make_job(tmp_path / "store", **changes), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_job_that_a_kill_or_two_may_end_is_refused(tmp_path: Path, restarts: int) -> None:
    job = make_job(tmp_path, recovery={"restarts": restarts})
    with pytest.raises(JobError, match=f"recovery.restarts = {restarts} lets kills end the run"):
        run_chaos(job, 3)
    assert files_below(tmp_path) == []
