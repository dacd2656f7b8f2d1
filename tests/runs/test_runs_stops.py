"""Runs that end before their last round: each way to stop, in processes, decided for all workers alike."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from runs_help import cancer, make_job

from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.storage import open_storage

MA = {"name": "ma_sgd", "learning_rate": 0.3, "local_steps": 2}


def run(store: Path, **keys: Any) -> tuple[RunRecord, list[Any]]:
    """A run of three workers that would go on for ever, and the figures of its looks."""
    events: list[Any] = []
    settings: dict[str, Any] = {"workers": 3, "rounds": 10**9, "evaluate": 4, "provider": "inline"}
    job = make_job(store, **(settings | keys))
    record = run_job(job, arrays=cancer(), on_event=events.append)
    return record, [e for e in events if e["event"] == "epoch"]


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize("optimizer", [None, MA], ids=["ga", "ma"])
def test_a_target_loss(tmp_path: Path, provider: str, optimizer: Any) -> None:
    """At the first look that sees it, on all workers, whatever the number of aggregators."""
    keys: dict[str, Any] = {"provider": provider, "evaluate": 1, "stop": {"loss": 0.2}}
    if optimizer:
        keys["optimizer"] = optimizer
    record, looks = run(tmp_path, **keys)
    assert record["stop_reason"] == "loss"
    assert record["exact"]
    assert record["loss"] == looks[-1]["loss"] <= 0.2 < min(look["loss"] for look in looks[:-1])
    assert record["rounds"] == looks[-1]["round"] == len(looks)
    again, _ = run(tmp_path, **keys, aggregators="all")
    assert (again["model_sha256"], again["rounds"]) == (record["model_sha256"], record["rounds"])


def test_a_target_loss_without_validation_rows(tmp_path: Path) -> None:
    record, looks = run(tmp_path, stop={"loss": 0.2}, data={"validation": 0})
    assert record["stop_reason"] == "loss"
    assert record["loss"] is None
    assert [look["figures"] for look in looks] == [{}] * len(looks)
    assert record["rounds"] == 4 * len(looks)
    assert record["train_loss"] < 0.3  # type: ignore[operator]


def test_no_improvement(tmp_path: Path) -> None:
    record, looks = run(tmp_path, stop={"improvement": 0.05, "patience": 2})
    assert record["stop_reason"] == "no improvement"
    losses = [look["loss"] for look in looks]
    assert min(losses[:-2]) * 0.95 <= min(losses[-2:])
    best = [min(losses[:i]) for i in range(1, len(losses))]
    enough = [new < 0.95 * old for old, new in zip(best, losses[1:], strict=True)]
    assert enough[-2:] == [False, False]
    assert all(a or b for a, b in itertools.pairwise(enough[:-1]))


@pytest.mark.parametrize("provider", ["local", "inline"])
def test_seconds(tmp_path: Path, provider: str) -> None:
    """Which round it is depends on the clock, so such a run does not say that it can be repeated."""
    record, looks = run(tmp_path, provider=provider, stop={"seconds": 0.2})
    assert record["stop_reason"] == "seconds"
    assert record["status"] == "succeeded"
    assert not record["exact"]
    assert looks[-1]["seconds"] >= 0.2
    assert looks[-1]["round"] == record["rounds"]
    assert record["loss"] == looks[-1]["loss"]


def test_a_run_that_ends_before_its_time_is_the_one_without_a_limit(tmp_path: Path) -> None:
    timed, _ = run(tmp_path, rounds=30, stop={"seconds": 3600})
    plain, _ = run(tmp_path, rounds=30)
    assert timed["stop_reason"] == "rounds"
    assert timed["exact"]
    assert timed["model_sha256"] == plain["model_sha256"]


def test_what_comes_first_ends_the_run(tmp_path: Path) -> None:
    stop = {"loss": 0.0, "improvement": 0.9, "patience": 1, "seconds": 3600}
    assert run(tmp_path, stop=stop)[0]["stop_reason"] == "no improvement"
    assert run(tmp_path, stop=stop, rounds=4)[0]["stop_reason"] == "rounds"


@pytest.mark.parametrize(
    ("keys", "looks"),
    [
        ({"rounds": 20}, [8, 16, 20]),
        ({"rounds": 20, "evaluate": 6}, [6, 12, 18, 20]),
        ({"rounds": 5, "evaluate": 100}, [5]),
        ({"rounds": 6, "optimizer": MA}, [4, 6]),
        ({"rounds": 450, "batch_size": 1000}, [*range(3, 451, 3)]),
    ],
)
def test_looks_come_once_an_epoch_or_as_often_as_asked_for(
    tmp_path: Path, keys: dict[str, Any], looks: list[int]
) -> None:
    assert [look["round"] for look in run(tmp_path, **({"evaluate": None} | keys))[1]] == looks


def test_the_specification_says_it_all(tmp_path: Path) -> None:
    record, _ = run(tmp_path, rounds=4, stop={"loss": 0.1}, class_weight="balanced", optimizer=MA)
    spec = json.loads(bytes(open_storage(f"file://{tmp_path}").get(f"runs/{record['run']}/spec.json")))
    assert spec["stop"] == {"loss": 0.1, "improvement": None, "patience": None, "seconds": None}
    assert (spec["evaluate"], spec["rounds"], spec["steps_per_round"]) == (4, 4, 2)
    assert spec["initial"] is None
    count = {0: 212, 1: 357}
    assert len(spec["class_weight"]) == 2
    assert spec["class_weight"][0] / spec["class_weight"][1] == pytest.approx(count[1] / count[0], rel=0.1)
