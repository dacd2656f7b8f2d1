"""The job files of ``examples/paper`` are valid, train on generated data, and mean the same in the paper's words."""

from __future__ import annotations

import json
import re
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
CLUSTERS = {"higgs": 10, "rcv1": 3, "yfcc": 10}
LABELS = {"higgs": {0, 1}, "rcv1": {-1, 1}, "yfcc": {-1, 1}}


def generate(kind: str, out: Path, rows: int, *words: str) -> Path:
    command = [sys.executable, "generate.py", kind, "--rows", str(rows), "--out", str(out), *words]
    done = subprocess.run(command, cwd=PAPER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets, small."""
    top = tmp_path_factory.mktemp("paper")
    for kind, rows in ROWS.items():
        generate(kind, top / f"{kind}.libsvm", rows)
        generate(kind, top / f"{kind}-clusters.libsvm", rows, "--clusters", str(CLUSTERS[kind]))
    return top


def data_of(job: Path) -> str:
    """Which data a job trains on."""
    return Path(tomllib.loads(job.read_text(encoding="utf-8"))["data"]["source"]).stem


def read(path: Path) -> tuple[Any, NDArray[Any]]:
    x, y = load_svmlight_file(str(path), n_features=FEATURES[re.split(r"[.-]", path.name)[0]])
    return x, y


def test_there_is_a_job_for_each_workload() -> None:
    workloads = {f"{d}-{m}-{o}" for d in ROWS for m in ("lr", "svm") for o in OPTIMIZERS}
    workloads |= {f"{d}-kmeans" for d in ROWS} | {f"trigger-{name}" for name in ("defaults", "admm", "kmeans")}
    assert {p.stem for p in JOBS} == workloads
    assert all(tomllib.loads(p.read_text(encoding="utf-8"))["name"] == p.stem for p in JOBS)


WORKERS_BATCH = {"higgs": (10, 10_000), "rcv1": (5, 2_000), "yfcc": (100, 800)}
STOP = {("higgs", "lr"): 0.66, ("higgs", "svm"): 0.48, ("rcv1", "lr"): 0.68, ("rcv1", "svm"): 0.05}
MODELS = {"lr": "logistic_regression", "svm": "svm"}
OPTIMIZERS = {"ga": "ga_sgd", "ma": "ma_sgd", "admm": "admm"}


@pytest.mark.parametrize("path", [p for p in JOBS if p.stem.count("-") == 2], ids=lambda p: p.stem)
def test_job_says_what_the_paper_says(path: Path) -> None:
    kind, model, optimizer = path.stem.split("-")
    job = Job.from_toml(path)
    assert (job.workers, job.batch_size) == WORKERS_BATCH[kind]
    assert (job.model.name, job.optimizer.name) == (MODELS[model], OPTIMIZERS[optimizer])
    assert (job.data.validation, job.data.features) == (0.1, FEATURES[kind])
    assert job.stop.loss == STOP.get((kind, model))
    assert 0.001 <= job.optimizer.values["learning_rate"] <= 1
    if optimizer == "admm":
        assert (job.optimizer.values["local"], job.optimizer.values["local_epochs"]) == ("sgd", 10)


@pytest.mark.parametrize(("kind", "workers", "loss"), [("higgs", 10, 0.15), ("rcv1", 50, 0.01), ("yfcc", 100, 50)])
def test_job_of_k_means_says_what_the_paper_says(kind: str, workers: int, loss: float) -> None:
    job = Job.from_toml(PAPER / f"{kind}-kmeans.toml")
    assert (job.workers, job.epochs, job.stop.loss, job.data.validation) == (workers, 10, loss, 0.1)
    assert (job.model.name, job.model.values["clusters"]) == ("kmeans", CLUSTERS[kind])
    assert (job.optimizer.name, job.optimizer.values["tolerance"]) == ("em", 1e-4)


def test_trigger_defaults_are_those_of_the_repository() -> None:
    jobs = {name: Job.from_toml(PAPER / f"trigger-{name}.toml") for name in ("defaults", "admm", "kmeans")}
    for job in jobs.values():
        assert (job.workers, job.batch_size, job.data.validation) == (10, 100_000, 0.2)
    assert (jobs["defaults"].epochs, jobs["admm"].rounds, jobs["kmeans"].epochs) == (2, 2, 10)
    options = {name: job.optimizer.values for name, job in jobs.items()}
    assert options["defaults"]["learning_rate"] == options["admm"]["learning_rate"] == 0.01
    assert options["admm"]["rho"] == options["admm"]["l2"] == 0.01
    assert options["kmeans"]["tolerance"] == 1e-4


# What is the same job said in the words of the paper's repository, and in this project's.
WORDS: dict[str, dict[str, Any]] = {
    "model": {
        "lr": "logistic_regression",
        "sparse_lr": "logistic_regression",
        "svm": "svm",
        "sparse_svm": "svm",
        "kmeans": "kmeans",
        "sparse_kmeans": "kmeans",
    },
    "optimizer": {"grad_avg": "ga_sgd", "model_avg": "ma_sgd", "admm": "admm"},
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
    source = folder / f"{data_of(path)}.libsvm"
    kind = source.stem.removesuffix("-clusters")
    changes = {
        "workers": 2,
        **({"rounds": 2} if "admm" in path.stem else {"epochs": 4}),
        "batch_size": ROWS[kind] // 5,
        "provider": "inline",
        "store": str(tmp_path),
        "data": {"source": str(source)},
    }
    run = train(Job.from_toml(path, changes))
    start = 1.0 if "svm" in path.stem else np.log(2)  # the loss of knowing nothing
    if "kmeans" in path.stem:
        start = variance(*read(source))
    assert run.record["status"] == "succeeded"
    assert run.record["stop_reason"] in ("loss", "rounds", "converged")
    assert run.metrics["loss"] is not None
    assert run.metrics["loss"] < start


def variance(x: Any, y: NDArray[Any]) -> float:
    """The mean squared distance of rows from their mean: the loss of one cluster."""
    return float(x.power(2).sum() / len(y) - np.square(x.mean(axis=0)).sum())


@pytest.mark.parametrize("kind", ROWS)
def test_generated_clusters_come_below_the_loss_that_the_paper_stops_at(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    """And data without clusters do not."""
    keys: dict[str, Any] = {"workers": 2, "provider": "inline", "store": str(tmp_path)}
    for name in (f"{kind}-clusters", kind):
        data = {"source": str(folder / f"{name}.libsvm")}
        run = train(Job.from_toml(PAPER / f"{kind}-kmeans.toml", {**keys, "data": data, "aggregators": 1}))
        assert (run.record["stop_reason"] == "loss") is (name != kind)


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
    other = generate(kind, tmp_path / f"{kind}.other", 50, "--seed", "1")
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
