"""Whole runs on real data, in processes and in threads."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import children
from runs_help import Arrays, cancer, files_below, keys_of, make_job, scratch_of, write_libsvm
from sklearn.linear_model import LogisticRegression

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.errors import RunError, RunNotFound, WorkerFailed
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.records.records import RunRecord, list_runs, model_files, read_run
from lambdaml_core.run.saved import decode, load
from lambdaml_core.storage import open_storage


def train(store: Path | str, *, arrays: Arrays | None = None, **keys: Any) -> RunRecord:
    job = make_job(store, **keys)
    return run_job(job, arrays=cancer() if job.data.source is None and arrays is None else arrays)


@pytest.mark.parametrize("provider", ["local", "inline"])
def test_one_model_for_every_number_of_aggregators(tmp_path: Path, provider: str) -> None:
    records = [train(tmp_path, workers=3, aggregators=k, provider=provider) for k in (1, 2, "all")]
    assert len({r["model_sha256"] for r in records}) == 1
    assert len({r["loss"] for r in records}) == 1
    assert [r["aggregators"] for r in records] == [1, 2, 3]


def test_it_learns_what_scikit_learn_learns(tmp_path: Path) -> None:
    """On the same rows: the model's loss over all data against the exact minimum of the same objective."""
    x, y = cancer()
    optimizer = {"name": "ga_sgd", "learning_rate": 0.5, "schedule": "inverse_sqrt", "momentum": 0.9, "l2": 0.01}
    record = train(
        tmp_path, workers=4, provider="inline", rounds=800, batch_size=128, optimizer=optimizer, data={"validation": 0}
    )
    assert record["model_path"] is not None
    model = load(record["model_path"])
    exact = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=1000).fit(x, y)

    def objective(w: Any, b: float) -> float:
        margin = (2 * y - 1) * (x @ w + b)
        return float(np.mean(np.logaddexp(0, -margin)) + 0.005 * w @ w)

    ours = objective(model.params[:-1].astype(np.float64), float(model.params[-1]))
    assert ours <= 1.001 * objective(exact.coef_[0], float(exact.intercept_[0]))
    assert record["loss"] is None
    assert record["train_loss"] == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-5)


def test_figures_are_those_of_the_validation_rows(tmp_path: Path) -> None:
    """Pooled over workers, they are what the saved model says of the same rows in one piece."""
    x, y = cancer()
    store = open_storage(f"file://{tmp_path}/data")
    manifest = write_arrays(x, y, store, shards=5, validation=0.3)
    record = train(tmp_path / "runs", workers=4, data=str(tmp_path / "data"), provider="inline")
    rows = ShardedData(store, manifest, rank=0, size=1, batch_size=10**6, split="validation").batch(0)
    assert record["model_path"] is not None
    figures = load(record["model_path"]).evaluate(rows.x, np.asarray(manifest.labels)[rows.y.astype(int)])
    for name in ("loss", "accuracy", "auc", "baseline_accuracy"):
        assert record[name] == pytest.approx(figures[name], rel=1e-6)
    assert rows.n == manifest.validation_rows > 150


def test_another_number_of_workers_is_only_another_cut(tmp_path: Path) -> None:
    """Mini-batches are the same rows but for rounding at their edges, so models are near and rounds are equal."""
    records = [train(tmp_path, workers=w, provider="inline", batch_size=455, epochs=30, rounds=None) for w in (1, 2, 4)]
    params = [load(str(r["model_path"])).params for r in records]
    assert {r["rounds"] for r in records} == {30}
    for other in params[1:]:
        np.testing.assert_allclose(other, params[0], rtol=1e-4, atol=1e-6)


def test_one_worker_touches_no_channel(tmp_path: Path) -> None:
    record = train(tmp_path, workers=1)
    assert set(record["requests"].values()) == {0}
    assert record["bytes"] == {"sent": 0, "received": 0}


def test_files_and_arrays_give_one_model(tmp_path: Path) -> None:
    x, y = cancer()
    x = np.vectorize(lambda v: float(f"{v:.6g}"))(x)
    source = write_libsvm(tmp_path / "cancer.libsvm")
    from_file = train(tmp_path / "store", workers=2, provider="inline", data=str(source))
    from_arrays = train(tmp_path / "store", workers=2, provider="inline", arrays=(x, y))
    assert from_file["model_sha256"] == from_arrays["model_sha256"]


def test_the_record(tmp_path: Path) -> None:
    record = train(tmp_path / "store", workers=2, name="first", epochs=3, rounds=None)
    assert record["status"] == "succeeded"
    assert record["stop_reason"] == "rounds"
    assert record["exact"]
    assert "-first-" in record["run"]
    assert record["epochs"] == 3
    assert record["rounds"] == 3 * -(-455 // 64)
    path = Path(str(record["model_path"]))
    assert hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() == record["model_sha256"]
    seconds = record["seconds"]
    parts = seconds["start"] + seconds["load"] + seconds["compute"] + seconds["communicate"] + seconds["wait"]
    assert all(value > 0 for value in (seconds["start"], seconds["compute"], seconds["total"]))
    assert parts <= seconds["total"] + 0.1
    requests = record["requests"]
    assert requests["put"] > record["rounds"]
    assert requests["list"] == 0
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert read_run(f"file://{tmp_path}/store", record["run"]) == record


def test_nothing_temporary_is_left(tmp_path: Path) -> None:
    record = train(tmp_path, workers=3, aggregators="all")
    assert not scratch_of(record["run"]).exists()
    kept = {key.split("/")[2] for key in keys_of(tmp_path)}
    assert kept == {
        "spec.json",
        "deployment.json",
        "driver.json",
        "attempts",
        "beats",
        "ends",
        "events",
        "progress.json",
        "model",
        "result.json",
        "end",
    }
    assert len(files_below(tmp_path)) == len(keys_of(tmp_path))
    assert children() == []


def test_a_channel_of_ones_own_is_left_empty(tmp_path: Path) -> None:
    train(tmp_path / "store", workers=3, aggregators=2, channel=str(tmp_path / "channel"))
    assert files_below(tmp_path / "channel") == []


def test_the_store_may_be_the_channel(tmp_path: Path) -> None:
    record = train(tmp_path, workers=2, channel=str(tmp_path))
    assert record["status"] == "succeeded"
    assert not [key for key in keys_of(tmp_path) if key.startswith("channels/")]


def test_events(tmp_path: Path) -> None:
    events: list[Any] = []
    job = make_job(tmp_path, workers=2, epochs=3, rounds=None, provider="inline")
    record = run_job(job, arrays=cancer(), on_event=events.append)
    names = [e["event"] for e in events]
    assert names[:4] == ["partitioned", "deploying", "deployed", "launched"]
    assert names[-1] == "ended"
    epochs = [e for e in events if e["event"] == "epoch"]
    assert [e["epoch"] for e in epochs] == [1, 2, 3]
    assert [e["round"] for e in epochs] == [8, 16, 24]
    assert epochs[-1]["loss"] == record["loss"]
    assert {e["run"] for e in events} == {record["run"]}
    assert [e for e in events if e["event"] == "progress"][-1]["round"] == 24
    assert json.loads(json.dumps(events, allow_nan=False)) == events


def test_runs_at_the_same_time_do_not_touch(tmp_path: Path) -> None:
    """Two runs with one store and one channel give what each gives alone."""
    alone = [train(tmp_path / "a", workers=2, provider="inline", seed=seed)["model_sha256"] for seed in (1, 2)]
    together: dict[int, Any] = {}

    def work(seed: int) -> None:
        record = train(tmp_path / "b", workers=2, provider="inline", seed=seed, channel="memory://shared")
        together[seed] = record["model_sha256"]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[1], together[2]] == alone
    assert alone[0] != alone[1]
    assert keys_of("memory://shared") == []


def test_a_store_in_memory_for_inline(tmp_path: Path) -> None:
    record = train("memory://notebook", workers=2, provider="inline")
    model = decode(model_files("memory://notebook", record["run"]))
    assert model.sha256 == record["model_sha256"]
    assert clean("memory://notebook") == [record["run"]]
    assert keys_of("memory://notebook") == []


def test_listing_and_cleaning(tmp_path: Path) -> None:
    store = f"file://{tmp_path}"
    first, second, third = (train(tmp_path, workers=1, provider="inline", name=name) for name in "abc")
    assert {r["run"] for r in list_runs(store)} == {r["run"] for r in (first, second, third)}
    assert clean(store, second["run"]) == [second["run"]]
    assert not [key for key in keys_of(tmp_path) if second["run"] in key]
    assert set(clean(store)) == {first["run"], third["run"]}
    assert files_below(tmp_path) == []
    assert list_runs(store) == []
    with pytest.raises(RunNotFound):
        read_run(store, first["run"])


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    record = train(tmp_path, workers=1, provider="inline")
    store = f"file://{tmp_path}"
    with pytest.raises(RunNotFound, match="no run") as caught:
        read_run(store, record["run"][:-1])
    assert caught.value.hint == f"did you mean {record['run']}?"
    for name in ("../store", "", "a//b"):
        with pytest.raises(RunNotFound):
            clean(store, name)


def test_a_run_of_another_version_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = (train(tmp_path, workers=1, provider="inline") for _ in range(2))
    path = tmp_path / "runs" / old["run"] / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 0}))
    store = f"file://{tmp_path}"
    assert [r["run"] for r in list_runs(store)] == [new["run"]]
    assert old["run"] in caplog.text
    with pytest.raises(RunError, match="another version"):
        read_run(store, old["run"])
    assert clean(store) == [new["run"]]
    assert [r["run"] for r in list_runs(store)] == []


def test_a_last_step_that_diverges_gives_no_model(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"workers": 2, "rounds": 1, "provider": "inline", "model": "least_squares"}
    x, y = cancer()
    with pytest.raises(WorkerFailed, match="training diverged: the model after its last round"):
        train(tmp_path, arrays=(1e3 * x, y), optimizer={"name": "ga_sgd", "learning_rate": 1e38}, **keys)
    (record,) = list_runs(f"file://{tmp_path}")
    assert (record["status"], record["model_path"]) == ("failed", None)


def test_a_run_that_diverges_fails_by_its_own_words(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"workers": 2, "optimizer": {"name": "ga_sgd", "learning_rate": 1e38}}
    with pytest.raises(WorkerFailed, match="training diverged") as caught:
        train(tmp_path, **keys)
    assert "\n" not in caught.value.message
    assert "learning_rate" in (caught.value.hint or "")
    assert caught.value.exit_code == 1
    (record,) = list_runs(f"file://{tmp_path}")
    assert record["status"] == "failed"
    assert "diverged" in str(record["stop_reason"])
    assert record["model_path"] is record["model_sha256"] is None
    assert not scratch_of(record["run"]).exists()
    assert children() == []
    with pytest.raises(RunError, match="has no model"):
        model_files(f"file://{tmp_path}", record["run"])
    store = open_storage(f"file://{tmp_path}")
    rank = caught.value.message.split()[1]  # all diverge alike, and the first to say so ends the run
    assert b"Traceback" in bytes(store.get(f"runs/{record['run']}/logs/{rank}.txt"))
    assert clean(f"file://{tmp_path}") == [record["run"]]
    assert files_below(tmp_path) == []


def test_what_happened_until_a_run_failed_is_kept(tmp_path: Path) -> None:
    """One worker, whom no other one's error can end before it has told."""
    with pytest.raises(WorkerFailed, match="training diverged"):
        train(tmp_path, workers=1, optimizer={"name": "ga_sgd", "learning_rate": 1e38})
    (record,) = list_runs(f"file://{tmp_path}")
    rounds = json.loads(bytes(open_storage(f"file://{tmp_path}").get(f"runs/{record['run']}/events/000000.json")))
    assert (rounds["event"], rounds["first"]) == ("rounds", 1)
