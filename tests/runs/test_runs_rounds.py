"""What a run tells of its rounds: to a callback, in its events, in the timelines of its workers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import children
from runs_help import cancer, keys_of, make_job

from lambdaml_core import train
from lambdaml_core.errors import DataError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.records.attempts import end_key
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.storage import open_storage


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize("rounds", [1, 700])
def test_a_callback_sees_every_round_once_and_in_order(tmp_path: Path, provider: str, rounds: int) -> None:
    seen: list[Any] = []
    threads: set[int] = set()

    def on_round(event: Any) -> None:
        seen.append(event)
        threads.add(threading.get_ident())

    keys: dict[str, Any] = {"rounds": rounds, "workers": 2, "batch_size": 64, "provider": provider}
    run = train(*cancer(), **keys, store=str(tmp_path), on_round=on_round)
    assert [event["round"] for event in seen] == list(range(1, rounds + 1))
    assert {event["run"] for event in seen} == {run.record["run"]}
    seconds = [event["seconds"] for event in seen]
    assert seconds == sorted(seconds)
    assert all(np.isfinite(event["loss"]) for event in seen)
    assert all(set(event) == {"run", "round", "loss", "seconds", "figures"} for event in seen)
    assert (run.rounds["round"], run.rounds["loss"]) == (list(range(1, rounds + 1)), [event["loss"] for event in seen])
    assert threads == {threading.get_ident()}


def test_the_losses_are_those_of_the_rounds(tmp_path: Path) -> None:
    """One worker and whole batches: the loss before each step, by the models of shorter runs."""
    x, y = cancer()
    keys: dict[str, Any] = {"workers": 1, "batch_size": 10**6, "provider": "inline", "data": {"validation": 0}}
    seen: list[Any] = []
    train(x, y, rounds=4, **keys, store=str(tmp_path), on_round=seen.append)
    shorter = [train(x, y, rounds=n, **keys, store=str(tmp_path)).model.evaluate(x, y)["loss"] for n in (1, 2, 3)]
    assert [event["loss"] for event in seen] == pytest.approx([np.log(2), *shorter], rel=1e-5)


@pytest.mark.parametrize("error", [ZeroDivisionError, DataError])
@pytest.mark.parametrize("provider", ["local", "inline"])
def test_a_callback_that_raises_cancels_the_run(tmp_path: Path, provider: str, error: type[Exception]) -> None:
    """No process is left and no key in the channel; the error is the callback's own, even if it is one of ours."""

    def on_round(event: Any) -> None:
        if event["round"] == 5:
            raise error("enough")

    channel = {"local": f"file://{tmp_path}/channel", "inline": "memory://rounds"}[provider]
    keys: dict[str, Any] = {"rounds": 10**9, "workers": 3, "batch_size": 64, "provider": provider, "channel": channel}
    with pytest.raises(error, match="enough"):
        train(*cancer(), **keys, store=str(tmp_path / "store"), on_round=on_round)
    assert children() == []
    assert keys_of(channel) == []
    (record,) = list_runs(f"file://{tmp_path}/store")
    assert (record["status"], record["stop_reason"]) == ("cancelled", f"a callback raised {error.__name__}: enough")
    assert not [thread for thread in threading.enumerate() if record["run"] in thread.name]
    assert clean(f"file://{tmp_path}/store") == [record["run"]]
    assert keys_of(tmp_path / "store") == []


def test_events_and_ends_in_the_store(tmp_path: Path) -> None:
    """What a report is made from."""
    job = make_job(tmp_path, workers=3, rounds=450, evaluate=100)
    events: list[Any] = []
    record = run_job(job, arrays=cancer(), on_event=events.append)
    store = open_storage(f"file://{tmp_path}/runs/{record['run']}")
    kept = [json.loads(bytes(store.get(key))) for key in sorted(store.list("events/"))]
    assert kept == [e for e in events if e["event"] in ("rounds", "epoch")]
    rounds = [e for e in kept if e["event"] == "rounds"]
    assert [n for e in rounds for n in range(e["first"], e["first"] + len(e["loss"]))] == list(range(1, 451))
    assert all(len(e["loss"]) == len(e["seconds"]) for e in rounds)
    looks = [e for e in kept if e["event"] == "epoch"]
    assert [e["round"] for e in looks] == [100, 200, 300, 400, 450]
    assert looks[-1]["figures"] == record["metrics"]
    assert set(record["metrics"]) == {"loss", "accuracy", "baseline_accuracy", "auc"}
    at = {n: s for e in rounds for n, s in enumerate(e["seconds"], e["first"])}
    assert [e["seconds"] for e in looks] == pytest.approx([at[e["round"]] for e in looks], abs=1e-6)
    for rank in range(3):
        end = json.loads(bytes(store.get(end_key(0, rank))))
        line = end["timeline"]
        assert set(line) == {"until", "start", "load", "compute", "communicate", "wait"}
        assert len({len(values) for values in line.values()}) == 1
        assert 200 <= len(line["until"]) <= 400
        for part, seconds in end["totals"]["seconds"].items():
            assert sum(line[part]) == pytest.approx(seconds, abs=0.001), "400 slices, each rounded to a microsecond"
        assert kept[0]["time_s"] - 60 < end["began_s"] < kept[0]["time_s"]
