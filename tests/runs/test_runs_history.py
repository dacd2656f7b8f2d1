"""The history of a run: what its events and the ends of its workers say, whole and in order."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs_help import cancer, make_job

from lambdaml_core.errors import RunNotFound, WorkerFailed
from lambdaml_core.run.driver import run_job
from lambdaml_core.run.history import CLASSES, PARTS, RunHistory, read_history
from lambdaml_core.run.records import list_runs
from lambdaml_core.run.spec import SPEC, get_json, put_json, run_store
from lambdaml_core.storage import open_storage

PRICES = {"store": {"put": 5e-6, "get": 4e-7}, "channel": {"put": 1.25e-6, "get": 2e-7, "list": 1.0}}


def trained(store: Path, **keys: Any) -> tuple[RunHistory, list[Any]]:
    """The history of a new run, and the events that its driver saw."""
    events: list[Any] = []
    record = run_job(make_job(store, provider="inline", **keys), arrays=cancer(), on_event=events.append)
    return read_history(f"file://{store}", record["run"]), events


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunHistory, list[Any]]:
    return trained(tmp_path_factory.mktemp("store"), workers=3, aggregators=2, rounds=100)


def test_every_round_is_there_once(three: tuple[RunHistory, list[Any]]) -> None:
    rounds = three[0]["rounds"]
    assert rounds["round"] == list(range(1, 101))
    assert len(rounds["loss"]) == len(rounds["seconds"]) == 100
    assert all(loss is not None and 0 < loss < 2 for loss in rounds["loss"])
    assert rounds["loss"][0] == pytest.approx(math.log(2), abs=1e-5)  # all parameters zero
    assert all(a <= b for a, b in itertools.pairwise([0.0, *rounds["seconds"]]))


def test_looks_are_what_the_driver_saw(three: tuple[RunHistory, list[Any]]) -> None:
    history, events = three
    seen = [e for e in events if e["event"] == "epoch"]
    looks = history["looks"]
    assert [look["round"] for look in looks] == [e["round"] for e in seen]
    assert [look["figures"]["loss"] for look in looks] == [e["loss"] for e in seen]
    assert [look["epoch"] for look in looks][:3] == [1, 2, 3]
    assert looks[-1]["figures"] == history["record"]["metrics"]
    assert history["rounds_planned"] == looks[-1]["round"] == 100
    for look in looks:
        assert look["batch_loss"] == history["rounds"]["loss"][look["round"] - 1]
        assert look["seconds"] == pytest.approx(history["rounds"]["seconds"][look["round"] - 1], abs=1e-5)


def test_timelines_add_up_to_the_seconds_of_each_worker(three: tuple[RunHistory, list[Any]]) -> None:
    workers = three[0]["workers"]
    assert [w["rank"] for w in workers] == [0, 1, 2]
    for worker in workers:
        seconds, told = worker["seconds"], worker["timeline"]
        assert seconds is not None
        assert told is not None
        assert all(a < b for a, b in itertools.pairwise([0.0, *told["until"]]))
        for part in PARTS:
            assert sum(told[part]) == pytest.approx(seconds[part], abs=2e-3)
        assert sum(sum(told[part]) for part in PARTS) == pytest.approx(told["until"][-1], abs=1e-3)
    began = [w["began_s"] for w in workers]
    assert None not in began


def test_requests_and_bytes_are_those_of_the_record(three: tuple[RunHistory, list[Any]]) -> None:
    history = three[0]
    channels = [w["channel"] for w in history["workers"] if w["channel"] is not None]
    assert {name: sum(counts[name] for counts in channels) for name in CLASSES} == history["record"]["requests"]
    assert sum(counts["sent"] for counts in channels) == history["record"]["bytes"]["sent"]
    assert [(c["place"], c["requests_class"]) for c in history["costs"]] == [
        (place, name) for place in ("store", "channel") for name in CLASSES
    ]


def test_costs_by_worker_and_by_class_add_up_to_the_whole(tmp_path: Path) -> None:
    run = trained(tmp_path, workers=2)[0]["record"]["run"]
    url = f"file://{tmp_path}"
    store = run_store(open_storage(url), run)
    put_json(store, SPEC, get_json(store, SPEC) | {"usd": PRICES})
    history = read_history(url, run)
    whole = 0.0
    for worker in history["workers"]:
        assert worker["store"] is not None
        assert worker["channel"] is not None
        usd = sum(
            counts[name] * price
            for counts, prices in ((worker["store"], PRICES["store"]), (worker["channel"], PRICES["channel"]))
            for name, price in prices.items()
        )
        assert worker["cost_usd"] == pytest.approx(usd, rel=1e-12)
        whole += usd
    assert whole > 0
    assert history["record"]["cost_usd"] == pytest.approx(whole, rel=1e-12)
    assert sum(cost["usd"] for cost in history["costs"]) == pytest.approx(whole, rel=1e-12)
    by_class = {(c["place"], c["requests_class"]): c["usd_each"] for c in history["costs"]}
    assert by_class["channel", "get"] == 2e-7
    assert by_class["store", "delete"] == 0


def test_a_history_is_json(three: tuple[RunHistory, list[Any]]) -> None:
    assert json.loads(json.dumps(three[0], allow_nan=False)) == three[0]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    """Every look while it runs is the beginning of what comes later; only worker 0 tells where its time goes."""
    seen: list[RunHistory] = []

    def look(event: Any) -> None:
        if event["event"] == "progress":
            seen.append(read_history(f"file://{tmp_path}", event["run"]))
            if len(seen) == 2:
                raise KeyboardInterrupt

    job = make_job(tmp_path, workers=2, rounds=10**9, provider="inline")
    with pytest.raises(BaseException, match="cancelled"):
        run_job(job, arrays=cancer(), on_event=look)
    first, second = seen
    assert first["record"]["status"] == "running"
    n = len(first["rounds"]["round"])
    assert 0 < n < len(second["rounds"]["round"])
    assert second["rounds"]["round"] == list(range(1, len(second["rounds"]["round"]) + 1))
    assert second["rounds"]["loss"][:n] == first["rounds"]["loss"]
    assert second["looks"][: len(first["looks"])] == first["looks"]
    assert [w["ended"] for w in second["workers"]] == [False, False]
    zero, one = second["workers"]
    assert zero["seconds"] is not None
    assert zero["seconds"]["compute"] > 0
    assert [one["seconds"], zero["timeline"], one["channel"], one["cost_usd"]] == [None] * 4
    after = read_history(f"file://{tmp_path}", second["record"]["run"])
    assert after["record"]["status"] == "cancelled"
    assert after["rounds"]["loss"][: len(second["rounds"]["loss"])] == second["rounds"]["loss"]


def test_one_worker_without_validation_rows_learning_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, -2.0, 0.5] + 3
    settings = {"name": "ga_sgd", "learning_rate": 0.1}
    keys: dict[str, Any] = {"workers": 1, "provider": "inline", "model": "least_squares", "optimizer": settings}
    blind = run_job(make_job(tmp_path, **keys, data={"validation": 0.0}), arrays=(x, y))
    history = read_history(f"file://{tmp_path}", blind["run"])
    assert all(look["figures"].get("loss") is None for look in history["looks"])
    losses = history["rounds"]["loss"]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0] / 50
    seeing = run_job(make_job(tmp_path, **keys), arrays=(x, y))
    last = read_history(f"file://{tmp_path}", seeing["run"])["looks"][-1]["figures"]
    assert last["r2"] is not None
    assert last["r2"] > 0.95
    assert "accuracy" not in last


def test_a_run_that_diverged(tmp_path: Path) -> None:
    """It has failed, and its history says which worker said why."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    settings = {"name": "ga_sgd", "learning_rate": 50.0}
    keys: dict[str, Any] = {"workers": 1, "provider": "inline", "model": "least_squares", "optimizer": settings}
    with np.errstate(all="ignore"), pytest.raises(WorkerFailed):
        run_job(make_job(tmp_path, **keys, rounds=1000), arrays=(x, x.sum(axis=1)))
    (record,) = list_runs(f"file://{tmp_path}")
    history = read_history(f"file://{tmp_path}", record["run"])
    assert record["status"] == "failed"
    (worker,) = history["workers"]
    assert not worker["ended"]
    assert worker["error"] is not None
    assert "diverged" in worker["error"]
    rounds = history["rounds"]
    assert rounds["round"] == list(range(1, len(rounds["round"]) + 1))
    assert json.dumps(history, allow_nan=False)


def test_a_run_that_is_not_there(tmp_path: Path, three: tuple[RunHistory, list[Any]]) -> None:
    record = three[0]["record"]
    with pytest.raises(RunNotFound) as caught:
        read_history(record["store"], record["run"][:-1])
    assert record["run"] in str(caught.value.hint)
