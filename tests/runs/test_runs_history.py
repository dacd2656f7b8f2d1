"""The history of a run: what its events and the ends of its workers say, whole and in order."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from runs_help import cancer, make_job

from lambdaml_core.errors import RunNotFound, WorkerFailed
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.history import CHARGES, CLASSES, PARTS, WORKER_CHARGES, RunHistory, read_history
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.run.spec import SPEC, get_json, put_json, run_store
from lambdaml_core.storage import open_storage

PRICES = {
    "store": {"put": 5e-6, "get": 4e-7},
    "channel": {"put": 1.25e-6, "get": 2e-7, "list": 1.0, "sent": 3e-9, "received": 6e-10},
}


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
    told = {name: sum(counts[name] for counts in channels) for name in (*CLASSES, "missed")}
    assert told == history["record"]["requests"]
    assert sum(counts["sent"] for counts in channels) == history["record"]["bytes"]["sent"]
    assert [(c["place"], c["charge"]) for c in history["costs"]] == [
        *((place, name) for place in ("store", "channel") for name in CHARGES),
        *(("worker", name) for name in WORKER_CHARGES),
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
    by_class = {(c["place"], c["charge"]): c["usd_each"] for c in history["costs"]}
    assert by_class["channel", "get"] == 2e-7
    assert by_class["store", "delete"] == 0


def test_what_rank_0_had_used_by_each_round(three: tuple[RunHistory, list[Any]]) -> None:
    """It rises with every round, by what its messages weigh, to what it had used in the end."""
    history = three[0]
    first = history["workers"][0]
    rounds = history["rounds"]
    assert rounds["figures"] == {}
    for place in ("channel", "store"):
        counts = cast(dict[str, int], dict(first)[place])
        used = cast(list[int], rounds["used"][place])
        assert len(used) == 100
        assert used == sorted(used)
        assert 0 < used[-1] <= counts["sent"] + counts["received"]
    steps = [b - a for a, b in itertools.pairwise(cast(list[int], rounds["used"]["channel"]))]
    assert min(steps) > 31 * 4  # of one float32 each way, at least
    assert rounds["used"]["usd"] == [0.0] * 100


def test_a_history_is_json(three: tuple[RunHistory, list[Any]]) -> None:
    assert json.loads(json.dumps(three[0], allow_nan=False)) == three[0]


class _Enough(Exception):
    """Raised by a listener."""


def test_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look while it runs is the beginning of what comes later; workers tell what they use with signs of life."""
    monkeypatch.setattr("lambdaml_core.run.records.status.DRIVER_S", 3600.0)  # it may stand still where it is looked at
    seen: list[RunHistory] = []

    def look(event: Any) -> None:
        if event["event"] == "progress":
            history = read_history(f"file://{tmp_path}", event["run"])
            if len(history["rounds"]["round"]) > (len(seen[0]["rounds"]["round"]) if seen else 0):
                seen.append(history)
            if len(seen) == 2:
                raise _Enough

    job = make_job(tmp_path, workers=2, rounds=10**9, provider="inline")
    with pytest.raises(_Enough):
        run_job(job, arrays=cancer(), on_event=look)
    first, second = seen
    assert first["record"]["status"] == "running"
    n = len(first["rounds"]["round"])
    assert 0 < n < len(second["rounds"]["round"])
    assert second["rounds"]["round"] == list(range(1, len(second["rounds"]["round"]) + 1))
    assert second["rounds"]["loss"][:n] == first["rounds"]["loss"]
    assert second["looks"][: len(first["looks"])] == first["looks"]
    assert [w["ended"] for w in second["workers"]] == [False, False]
    for worker in second["workers"]:
        assert worker["timeline"] is None
        assert worker["seconds"] is not None
        assert worker["channel"] is not None
        assert (worker["attempts"], worker["restarts"], worker["successions"]) == (1, 0, 0)
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
