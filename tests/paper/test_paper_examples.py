"""The job files of ``examples/paper`` are valid, train on generated data, and mean the same in the paper's words."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file

from lambdaml_core import train
from lambdaml_core.run.job import Job

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "examples" / "paper"
JOBS = sorted(PAPER.glob("*.toml"))
ROWS = {"higgs": 3000, "rcv1": 1500, "yfcc": 300}
FEATURES = {"higgs": 28, "rcv1": 47_236, "yfcc": 4096}
LABELS = {"higgs": {0, 1}, "rcv1": {-1, 1}, "yfcc": {-1, 1}}


def generate(kind: str, out: Path, rows: int, seed: int = 0) -> Path:
    command = [sys.executable, "generate.py", kind, "--rows", str(rows), "--out", str(out), "--seed", str(seed)]
    done = subprocess.run(command, cwd=PAPER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets, small."""
    top = tmp_path_factory.mktemp("paper")
    for kind, rows in ROWS.items():
        generate(kind, top / f"{kind}.libsvm", rows)
    return top


def data_of(job: Path) -> str:
    """Which data a job trains on."""
    return Path(tomllib.loads(job.read_text(encoding="utf-8"))["data"]["source"]).stem


def read(path: Path) -> tuple[Any, NDArray[Any]]:
    x, y = load_svmlight_file(str(path), n_features=FEATURES[path.name.partition(".")[0]])
    return x, y


def test_there_is_a_job_for_each_workload() -> None:
    workloads = {f"{d}-{m}-{o}" for d in ROWS for m in ("lr", "svm") for o in ("ga", "ma")}
    assert {p.stem for p in JOBS} == workloads | {"trigger-defaults"}
    assert all(tomllib.loads(p.read_text(encoding="utf-8"))["name"] == p.stem for p in JOBS)


WORKERS_BATCH = {"higgs": (10, 10_000), "rcv1": (5, 2_000), "yfcc": (100, 800)}
STOP = {("higgs", "lr"): 0.66, ("higgs", "svm"): 0.48, ("rcv1", "lr"): 0.68, ("rcv1", "svm"): 0.05}
MODELS = {"lr": "logistic_regression", "svm": "svm"}
OPTIMIZERS = {"ga": "ga_sgd", "ma": "ma_sgd"}


@pytest.mark.parametrize("path", [p for p in JOBS if p.stem != "trigger-defaults"], ids=lambda p: p.stem)
def test_job_says_what_the_paper_says(path: Path) -> None:
    kind, model, optimizer = path.stem.split("-")
    job = Job.from_toml(path)
    assert (job.workers, job.batch_size) == WORKERS_BATCH[kind]
    assert (job.model.name, job.optimizer.name) == (MODELS[model], OPTIMIZERS[optimizer])
    assert (job.data.validation, job.data.features) == (0.1, FEATURES[kind])
    assert job.stop.loss == STOP.get((kind, model))
    assert 0.001 <= job.optimizer.values["learning_rate"] <= 1


def test_trigger_defaults_are_those_of_the_repository() -> None:
    job = Job.from_toml(PAPER / "trigger-defaults.toml")
    assert (job.workers, job.batch_size, job.epochs, job.data.validation) == (10, 100_000, 2, 0.2)
    assert job.optimizer.values["learning_rate"] == 0.01


# What is the same job said in the words of the paper's repository, and in this project's.
WORDS: dict[str, dict[str, Any]] = {
    "model": {
        "lr": "logistic_regression",
        "sparse_lr": "logistic_regression",
        "svm": "svm",
        "sparse_svm": "svm",
    },
    "optimizer": {"grad_avg": "ga_sgd", "model_avg": "ma_sgd"},
    "aggregators": {"reduce": 1, "reduce_scatter": "all"},
    "data": {
        "dense_libsvm": {"name": "libsvm", "layout": "dense"},
        "sparse_libsvm": {"name": "libsvm", "layout": "sparse"},
    },
}


@pytest.mark.parametrize(("key", "word"), [(key, word) for key, words in WORDS.items() for word in words])
def test_words_of_the_repository_mean_the_same_job(key: str, word: str) -> None:
    def job(value: Any) -> Job:
        return Job.from_mapping({key: {"format": value} if key == "data" else value})

    assert job(word) == job(WORDS[key][word])


def test_words_of_the_repository_are_used_in_the_examples() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in JOBS)
    assert not [word for words in WORDS.values() for word in words if f'"{word}"' not in text]


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.stem)
def test_job_trains_with_fewer_workers_on_less_data(path: Path, folder: Path, tmp_path: Path) -> None:
    """By the same keys that README.md says to change."""
    kind = data_of(path)
    changes = {
        "workers": 2,
        "epochs": 4,
        "batch_size": ROWS[kind] // 5,
        "provider": "inline",
        "store": str(tmp_path),
        "data": {"source": str(folder / f"{kind}.libsvm")},
    }
    run = train(Job.from_toml(path, changes))
    start = 1.0 if "svm" in path.stem else np.log(2)  # the loss of knowing nothing
    assert run.record["status"] == "succeeded"
    assert run.record["stop_reason"] in ("loss", "rounds")
    assert run.metrics["loss"] is not None
    assert run.metrics["loss"] < start


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_generated_higgs_reaches_the_loss_that_the_paper_stops_at(optimizer: str, folder: Path, tmp_path: Path) -> None:
    command = ("-m", "lambdaml_core", "train", str(PAPER / f"higgs-svm-{optimizer}.toml"), "--json")
    settings = ("workers=2", "batch_size=300", f"data.source={folder / 'higgs.libsvm'}", f"store={tmp_path}")
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run([sys.executable, *command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    record = json.loads(done.stdout)
    assert (record["status"], record["stop_reason"]) == ("succeeded", "loss")
    assert record["loss"] <= 0.48


@pytest.mark.parametrize("kind", ROWS)
def test_generated_data_have_the_shape_of_the_originals(kind: str, folder: Path) -> None:
    x, y = read(folder / f"{kind}.libsvm")
    assert x.shape == (ROWS[kind], FEATURES[kind])
    assert set(y) == LABELS[kind]
    assert np.isfinite(x.data).all()
    a_row = x.nnz / len(y)
    if kind == "rcv1":
        assert a_row == pytest.approx(74, rel=0.1)
        np.testing.assert_allclose(np.sqrt(x.multiply(x).sum(axis=1)), 1, atol=1e-3)
    if kind == "yfcc":
        assert 0.1 < a_row / FEATURES[kind] < 0.5
    assert kind == "higgs" or x.data.min() >= 0


@pytest.mark.parametrize("kind", ROWS)
def test_generated_files_depend_on_their_arguments_alone(kind: str, tmp_path: Path) -> None:
    first = generate(kind, tmp_path / f"{kind}.libsvm", 50)
    again = generate(kind, tmp_path / f"{kind}.again", 50)
    other = generate(kind, tmp_path / f"{kind}.other", 50, seed=1)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    x, y = read(first)
    packed_x, packed_y = read(generate(kind, tmp_path / f"{kind}.libsvm.gz", 50))
    assert (x != packed_x).nnz == 0
    np.testing.assert_array_equal(y, packed_y)


def test_generated_rows_are_written_in_blocks_of_any_number(tmp_path: Path) -> None:
    """yfcc is written 1,000 rows at a time."""
    path = generate("yfcc", tmp_path / "yfcc.libsvm", 1001)
    assert len(path.read_text().splitlines()) == 1001
