"""``lambdaml quickstart``: both models are one, and as good as scikit-learn's on the very rows they were trained on."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from lambdaml_core import load
from lambdaml_core.cli import main
from lambdaml_core.cli.quickstart import SETTINGS, check_equal, partition_sample
from lambdaml_core.data.shards import Manifest, ShardedData, Split
from lambdaml_core.errors import RunError
from lambdaml_core.storage import open_storage

ROOT = Path(__file__).parents[2]


def quickstart(folder: Path, *words: str) -> str:
    """Run the command as a newcomer does; returns its standard output."""
    environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    environment.pop("LAMBDAML_STORE", None)
    environment.pop("XDG_DATA_HOME", None)
    command = [sys.executable, "-m", "lambdaml_core", "quickstart", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def runs(home: Path) -> list[dict[str, Any]]:
    """What ``lambdaml quickstart --json`` prints."""
    out = quickstart(home, "--json")
    assert out.count("\n") == 1
    printed = json.loads(out)
    assert printed["schema"] == 1
    return list(printed["runs"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[Split, tuple[Any, NDArray[Any]]]:
    """The rows of both splits, read from shards made as the command makes them."""
    store = open_storage(partition_sample(tmp_path_factory.mktemp("sample") / "shards"))
    manifest = Manifest.load(store)
    found: dict[Split, tuple[Any, NDArray[Any]]] = {}
    for split in ("train", "validation"):
        blocks = list(ShardedData(store, manifest, rank=0, size=1, batch_size=1000, split=split).blocks())
        found[split] = sparse.vstack([b.x for b in blocks]).tocsr(), np.concatenate([b.y for b in blocks])
    return found


def test_one_and_four_aggregators_give_one_model(runs: list[dict[str, Any]]) -> None:
    assert [r["aggregators"] for r in runs] == [1, 4]
    assert {r["status"] for r in runs} == {"succeeded"}
    assert {r["workers"] for r in runs} == {4}
    assert {r["provider"] for r in runs} == {"local"}
    assert len({r["model_sha256"] for r in runs}) == 1
    assert len({(r["loss"], r["accuracy"], r["auc"], r["baseline_accuracy"], r["train_loss"]) for r in runs}) == 1
    assert {r["rounds"] for r in runs} == {SETTINGS["rounds"]}


def test_the_files_are_what_the_sum_says(runs: list[dict[str, Any]]) -> None:
    first, second = (load(r["model_path"]) for r in runs)
    assert first.files() == second.files()
    assert first.sha256 == runs[0]["model_sha256"]


def test_as_good_as_scikit_learn_on_the_same_split(
    runs: list[dict[str, Any]], rows: dict[Split, tuple[Any, NDArray[Any]]]
) -> None:
    """F(w) = mean loss + l2/2 ||w||^2 is scikit-learn's objective with C = 1 / (l2 N)."""
    x, y = rows["train"]
    l2 = SETTINGS["optimizer"]["l2"]
    theirs = LogisticRegression(C=1 / (l2 * len(y)), max_iter=2000, tol=1e-6).fit(x, y)
    xv, yv = rows["validation"]
    p = theirs.predict_proba(xv)[:, 1]
    assert runs[0]["loss"] <= 1.02 * log_loss(yv, p)
    assert runs[0]["auc"] >= roc_auc_score(yv, p) - 0.01


def test_the_figures_are_those_of_the_model_on_the_validation_rows(
    runs: list[dict[str, Any]], rows: dict[Split, tuple[Any, NDArray[Any]]]
) -> None:
    model = load(runs[0]["model_path"])
    x, y = rows["validation"]
    p = model.predict_proba(x)[:, 1]
    assert runs[0]["loss"] == pytest.approx(log_loss(y, p), rel=1e-5)
    assert runs[0]["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-3)
    assert runs[0]["accuracy"] == pytest.approx(np.mean((p > 0.5) == y), abs=1e-6)
    assert runs[0]["baseline_accuracy"] == pytest.approx(max(np.mean(y), 1 - np.mean(y)), abs=1e-6)
    xt, yt = rows["train"]
    assert runs[0]["train_loss"] == pytest.approx(log_loss(yt, model.predict_proba(xt)[:, 1]), rel=1e-5)


def test_what_a_newcomer_sees_and_can_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SETTINGS, "rounds", 20)
    monkeypatch.setenv("LAMBDAML_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["quickstart", "--store", str(tmp_path / "elsewhere")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for word in ("validation loss", "AUC", "accuracy", "majority", "rounds", "K = 1", "K = 4"):
        assert word in out
    for part in ("total", "start", "load", "compute", "communicate", "wait"):
        assert f"seconds: {part}" in out
    (path,) = re.findall(r"^saved to (.*)$", out, re.MULTILINE)
    assert f"same bytes: SHA-256 {load(path).sha256}" in out
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]
    commands = re.findall(r"^  lambdaml (.*)$", out, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert main(shlex.split(command.partition(">")[0])) == 0
        assert capsys.readouterr().out


def test_models_that_differ_are_an_error() -> None:
    with pytest.raises(RunError, match="the models differ: a, b"):
        check_equal([{"model_sha256": "a"}, {"model_sha256": "b"}])  # type: ignore[typeddict-item]
