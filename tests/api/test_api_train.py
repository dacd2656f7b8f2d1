"""Training from Python: the five lines, every kind of input, and one clear error for what cannot be trained on."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

import lambdaml_core
from lambdaml_core import Job, TrainedRun, load, train
from lambdaml_core.errors import DataError, JobError, UsageError
from lambdaml_core.run.records.records import list_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own for every test."""
    monkeypatch.setenv("LAMBDAML_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def rows(n: int = 300, features: int = 5, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of two classes that overlap."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(np.float32)
    y = (x @ np.linspace(-2, 2, features) + 0.5 * rng.normal(size=n) + 0.3 > 0).astype(int)
    return x, y


def quick(x: Any, y: Any = None, **keys: Any) -> TrainedRun:
    """Threads instead of processes: the same rounds, sooner."""
    settings = {"workers": 2, "epochs": 3, "batch_size": 50, "provider": "inline", "optimizer": {"learning_rate": 1.0}}
    return train(x, y, **{**settings, **keys})


def libsvm(path: Path, x: NDArray[Any], y: NDArray[Any]) -> Path:
    """Write rows as LIBSVM text."""
    lines = [
        f"{label:g} " + " ".join(f"{i + 1}:{v!r}" for i, v in enumerate(row.tolist()))
        for row, label in zip(x, y, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


# --- five lines ---------------------------------------------------------------------------------------------


def test_the_five_lines_of_the_readme_work_on_sparse_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = rows(400)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"x": sparse.csr_matrix(x), "y": y}
    exec(next(b for b in blocks if "from lambdaml_core import" in b), names)  # noqa: S102 - the README is ours
    run = names["run"]
    assert (run.record["provider"], run.record["status"]) == ("local", "succeeded")
    assert run.metrics["accuracy"] > 0.8
    assert (load("my-model").predict(names["x"]) == y).mean() > 0.8


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, lambdaml_core; print(sorted({m.split('.')[0] for m in sys.modules}))"
    seen = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert not {"numpy", "scipy", "click", "rich", "pluggy", "safetensors"} & set(re.findall(r"'(\w+)'", seen))


def test_the_lazy_names_are_all_there() -> None:
    assert set(lambdaml_core.__all__) <= set(dir(lambdaml_core))
    for name in lambdaml_core.__all__:
        assert getattr(lambdaml_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lambdaml_core.nothing


def test_the_keywords_are_the_keys_of_a_job() -> None:
    keywords = {p.name for p in inspect.signature(train).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert keywords - {"on_event", "on_round"} == {f.name for f in fields(Job)}


# --- inputs -------------------------------------------------------------------------------------------------


def test_every_kind_of_array_gives_the_same_model() -> None:
    x, y = rows()
    dense = {quick(kind(x), y).model.sha256 for kind in (np.asarray, np.asfortranarray, np.ndarray.tolist)}
    csr = {quick(kind(x), y).model.sha256 for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix)}
    assert len(dense) == len(csr) == 1


def test_tensors_are_arrays_and_numbers_of_numpy_are_settings() -> None:
    x, y = rows()
    settings: dict[str, Any] = {"epochs": np.int64(2), "optimizer": {"learning_rate": np.float32(0.5)}}
    tensors = quick(torch.from_numpy(x), torch.from_numpy(y), **settings)
    assert tensors.model.files() == quick(x, y, epochs=2, optimizer={"learning_rate": 0.5}).model.files()


def test_a_run_to_go_on_from_is_its_model() -> None:
    x, y = rows()
    first = quick(x, y)
    by_run, by_model, anew = (quick(x, y, init_from=origin) for origin in (first, first.model, None))
    assert by_run.model.sha256 == by_model.model.sha256 != anew.model.sha256


def test_arrays_file_and_partition_give_one_model(tmp_path: Path) -> None:
    from lambdaml_core.data.partition import partition

    x, y = rows()
    source = libsvm(tmp_path / "rows.libsvm", x, y)
    partition(source, f"file://{tmp_path}/shards", shards=3)
    models = [quick(x, y), quick(source), quick(str(tmp_path / "shards")), quick(f"file://{tmp_path}/shards")]
    assert len({run.model.sha256 for run in models}) == 1


@pytest.mark.parametrize("provider", ["local", "inline"])
def test_a_job_is_one_structure_wherever_it_is_written(tmp_path: Path, provider: str) -> None:
    x, y = rows()
    source = libsvm(tmp_path / "rows.libsvm", x, y)
    toml = f"""
        workers = 2
        epochs = 2
        batch_size = 50
        aggregators = "all"
        provider = "{provider}"
        [data]
        source = "rows.libsvm"
        validation = 0.25
        [optimizer]
        learning_rate = 0.5
        momentum = 0.9
        l2 = 0.01
    """
    (tmp_path / "job.toml").write_text(toml)
    by_file = train(Job.from_toml(tmp_path / "job.toml"))
    by_words = train(
        source,
        workers=2,
        epochs=2,
        batch_size=50,
        aggregators="all",
        provider=provider,
        data={"validation": 0.25},
        optimizer={"learning_rate": 0.5, "momentum": 0.9, "l2": 0.01},
    )
    assert by_file.model.files() == by_words.model.files()
    assert by_file.metrics == by_words.metrics


@pytest.mark.parametrize("labels", [["ham", "spam"], [-1, 1], [1, 2], [0.5, 1.5], [False, True]])
def test_labels_come_back_as_they_were_given(labels: list[Any]) -> None:
    x, numbers = rows()
    y = np.asarray(labels)[numbers]
    run = quick(x, y)
    predicted = run.model.predict(x)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.8
    assert run.model.labels == labels


def test_the_model_of_a_run_is_the_one_in_its_record(tmp_path: Path) -> None:
    x, y = rows()
    run = quick(x, y)
    assert run.model.sha256 == run.record["model_sha256"]
    path = run.record["model_path"]
    assert path is not None
    assert load(path).files() == run.model.files()
    assert load(run.model.save(tmp_path / "copy")).files() == run.model.files()


def test_a_notebook_shows_one_line() -> None:
    x, y = rows()
    run = quick(x, y)
    assert re.fullmatch(rf"<TrainedRun {run.record['run']}: 15 rounds, loss=0\.\d+, accuracy=.*>", repr(run))
    assert repr(run.model) == "<SavedModel logistic_regression: 5 features, labels [0, 1]>"


def test_training_in_a_thread_that_is_not_the_main_one() -> None:
    """As some notebooks and servers do; only the main thread may set signal handlers."""
    x, y = rows()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(quick, x, y).result()
    assert run.record["status"] == "succeeded"


def test_history_has_every_epoch_and_ends_with_the_metrics() -> None:
    x, y = rows()
    events: list[str] = []
    run = quick(x, y, epochs=4, on_event=lambda e: events.append(e["event"]))
    assert [e["epoch"] for e in run.history] == [1, 2, 3, 4]
    assert {k: run.history[-1][k] for k in ("loss", "accuracy", "auc")} == {
        k: run.metrics[k] for k in ("loss", "accuracy", "auc")
    }
    assert events.count("epoch") == 4
    assert events[-1] == "ended"


def test_metrics_are_those_of_scikit_learn_on_the_validation_rows(tmp_path: Path) -> None:
    """The whole of the data is kept out of training once as validation rows, so both sides see the same ones."""
    x, y = rows(500)
    run = quick(x, y)
    assert run.metrics["baseline_accuracy"] is not None
    assert 0.5 <= run.metrics["baseline_accuracy"] < run.metrics["accuracy"]  # type: ignore[operator]
    everything = run.model.evaluate(x, y)
    mean = 0.8 * run.metrics["train_loss"] + 0.2 * run.metrics["loss"]  # type: ignore[operator]
    assert everything["loss"] == pytest.approx(mean, rel=1e-4)


def frame() -> pd.DataFrame:
    """Columns of numbers and of words; income goes by both."""
    rng = np.random.default_rng(0)
    age, sector = rng.integers(18, 80, 400), rng.choice(["farm", "shop", "state"], 400)
    income = np.where(age + 20 * (sector == "state") > 55, "high", "low")
    return pd.DataFrame({"age": age, "sector": sector, "income": income})


def test_a_frame_has_its_labels_in_a_column_or_apart() -> None:
    """And the model takes raw columns."""
    rows = frame()
    apart = quick(rows.drop(columns="income"), rows["income"])
    for label in ("income", -1, 2):
        within = quick(rows, data={"format": {"name": "frame", "label": label}})
        assert apart.model.files() == within.model.files()
    assert apart.model.labels == ["high", "low"]
    assert (apart.model.predict(rows) == rows["income"]).mean() > 0.9


def test_files_of_a_table_one_or_many(tmp_path: Path) -> None:
    """A folder and a pattern are the same rows; a format's options go without its name."""
    (tmp_path / "parts").mkdir()
    for i in range(4):
        frame()[100 * i : 100 * (i + 1)].to_csv(tmp_path / "parts" / f"part-{i}.csv", index=False)
    options = {"format": {"label": "income"}}
    folder, pattern = (quick(tmp_path / name, data=options) for name in ("parts", "parts/part-*.csv"))
    assert folder.model.files() == pattern.model.files()
    assert (folder.model.predict(frame()) == frame()["income"]).mean() > 0.9


def test_numbers_are_learned_from_a_frame() -> None:
    rows = frame()
    rows["pay"] = 0.1 * rows["age"] + (rows["sector"] == "shop")
    run = quick(rows[["age", "sector"]], rows["pay"], model="least_squares", optimizer={"learning_rate": 0.3}, epochs=9)
    assert run.model.labels == []
    assert run.metrics["r2"] > 0.9  # type: ignore[operator]
    assert "accuracy" not in run.metrics
    np.testing.assert_allclose(run.model.predict(rows), rows["pay"], atol=1)


# --- what cannot be trained on ------------------------------------------------------------------------------


def _with(value: float) -> NDArray[Any]:
    x, _ = rows()
    x[7, 2] = value
    return x


X, Y = rows()
BAD: dict[str, tuple[Any, Any, dict[str, Any], type[UsageError], str]] = {
    "NaN": (_with(np.nan), Y, {}, DataError, "NaN"),
    "infinite": (_with(np.inf), Y, {}, DataError, "infinite"),
    "sparse NaN": (sparse.csr_matrix(_with(np.nan)), Y, {}, DataError, "NaN"),
    "one class": (X, np.ones(300), {}, DataError, "label"),
    "as many classes as rows": (np.ones((10_001, 1)), np.arange(10_001), {}, DataError, "10,000 different labels"),
    "a number to learn that is a word": (X, Y.astype(str), {"model": "least_squares"}, DataError, "numbers"),
    "weight of no class": (X, Y, {"class_weight": {"spam": 2}}, JobError, "class_weight names spam"),
    "a format of files": (X, Y, {"data": {"format": "libsvm"}}, JobError, "libsvm is for files"),
    "labels in a column that is not there": (
        pd.DataFrame(X),
        None,
        {"data": {"format": {"name": "frame", "label": "income"}}},
        DataError,
        "no column 'income'",
    ),
    "labels given twice": (
        pd.DataFrame(X),
        Y,
        {"data": {"format": {"name": "frame", "label": "4"}}},
        JobError,
        "given twice",
    ),
    "labels of a frame missing": (pd.DataFrame(X), None, {}, JobError, "labels are missing"),
    "fewer rows than workers": (X[:3], Y[:3], {"workers": 4}, DataError, "rows"),
    "no rows": (X[:0], Y[:0], {}, DataError, "rows"),
    "no columns": (X[:, :0], Y, {}, DataError, "columns|features"),
    "other lengths": (X, Y[:-1], {}, DataError, "300.*299|299.*300"),
    "one dimension": (X[:, 0], Y, {}, DataError, "dimension"),
    "labels of two dimensions": (X, np.stack([Y, Y]), {}, DataError, "dimension|labels"),
    "words": (np.full((300, 2), "word"), Y, {}, DataError, "number"),
    "labels missing": (X, None, {}, JobError, "labels are missing"),
    "labels beside a file": ("rows.libsvm", Y, {}, JobError, "beside a file"),
    "file missing": ("nothing.libsvm", None, {}, UsageError, r"nothing\.libsvm"),
    "zero workers": (X, Y, {"workers": 0}, UsageError, "workers must be at least 1"),
    "unknown model": (X, Y, {"model": "logistic"}, UsageError, "logistic"),
    "unknown option": (X, Y, {"optimizer": {"learning": 1}}, UsageError, r"optimizer\.learning"),
    "no model to go on from": (X, Y, {"init_from": 3}, JobError, "init_from cannot be of type int"),
    "no function": (X, Y, {"on_round": 3}, JobError, "on_round must be a function, not 3"),
    "labels that are one number": (X, 3, {}, DataError, "dimension|labels"),
    "keys beside a job": (Job.from_mapping({}), None, {"workers": 3}, JobError, "workers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(name: str, store: Path) -> None:
    x, y, keys, kind, message = BAD[name]
    settings: dict[str, Any] = {} if isinstance(x, Job) else {"provider": "inline", "workers": 2}
    with pytest.raises(kind, match=message) as caught:
        train(x, y, **{**settings, **keys})
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2
    assert not store.exists() or (list_runs(store.as_uri()) == [] and not [p for p in store.rglob("*") if p.is_file()])


def test_shards_of_other_features_than_asked_for(tmp_path: Path) -> None:
    from lambdaml_core.data.partition import partition

    partition(libsvm(tmp_path / "rows.libsvm", X, Y), f"file://{tmp_path}/shards", shards=2)
    with pytest.raises(DataError, match=r"5 features.*28"):
        quick(tmp_path / "shards", data={"features": 28})
    with pytest.raises(DataError, match=r"5 features.*28"):
        quick(X, Y, data={"features": 28})


def test_predicting_on_other_features_than_trained_on() -> None:
    with pytest.raises(DataError, match="the data has 4 features and the model was trained on 5"):
        quick(X, Y).model.predict(X[:, :4])


def test_an_environment_without_a_home_is_no_obstacle_where_a_store_is_given(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from lambdaml_core import train\n"
        "x = np.arange(40.0).reshape(20, 2) / 40; y = np.arange(20) % 2\n"
        f"run = train(x, y, workers=2, epochs=1, batch_size=5, provider='inline', store={str(tmp_path / 'mine')!r})\n"
        "print(run.record['status'], run.record['store'])\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("LAMBDAML_STORE", "XDG_DATA_HOME")} | {
        "HOME": "/nonexistent"
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["succeeded", (tmp_path / "mine").as_uri()], done.stderr
