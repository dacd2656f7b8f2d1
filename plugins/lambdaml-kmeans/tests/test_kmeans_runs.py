"""Whole runs: rows with labels of all kinds and without, processes of their own, models that are saved and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import lambdaml_core
from lambdaml_core.cli import main
from lambdaml_core.errors import JobError, NotSupported
from lambdaml_core.run.api import TrainedRun

PLACES = np.array([[0, 0, 9], [0, 9, 0], [9, 0, 0]])


def rows(count: int = 300) -> NDArray[Any]:
    rng = np.random.default_rng(5)
    return (PLACES[np.arange(count) % 3] + rng.standard_normal((count, 3)) / 4).astype(np.float32)


def run(x: Any, y: Any = None, **keys: Any) -> TrainedRun:
    given: dict[str, Any] = {"provider": "inline", "workers": 2, "epochs": 10, "store": "memory://kmeans"}
    return lambdaml_core.train(x, y, **{**given, "model": {"name": "kmeans", "clusters": 3}, "optimizer": "em", **keys})


def assert_found(model: Any, x: Any) -> None:
    groups = model.predict(x)
    assert groups.dtype == np.int64
    assert len(set(groups[:3])) == 3
    assert (groups == groups[np.arange(len(groups)) % 3]).all()


@pytest.mark.parametrize(
    "y",
    [None, np.arange(300) % 7, np.ones(300), np.linspace(0, 1, 300), np.array(["a", "b", "c"] * 100)],
    ids=["none", "classes", "one class", "numbers", "words"],
)
def test_labels_of_any_kind_are_left_out(y: Any) -> None:
    x = rows()
    trained = run(x, y)
    assert_found(trained.model, x)
    assert trained.model.labels == []
    assert trained.record["stop_reason"] == "converged"
    assert trained.metrics["loss"] == pytest.approx(3 / 16, rel=0.3)
    figures = trained.model.evaluate(x)
    assert figures["inertia"] == pytest.approx(300 * figures["loss"])
    assert set(trained.rounds["figures"]) >= {"inertia", "moved"}


def test_sparse_rows_and_goes_on_from_a_model() -> None:
    x = rows()
    first = run(csr_matrix(x), rounds=1, epochs=None)
    second = run(csr_matrix(x), init_from=first, optimizer={"name": "em", "tolerance": 0.0})
    assert_found(second.model, x)
    assert second.rounds["loss"][0] == pytest.approx(first.record["train_loss"], rel=1e-4)


def test_a_partition_of_classes_will_do(tmp_path: Path) -> None:
    x = rows()
    lines = [f"{i % 2} " + " ".join(f"{j + 1}:{v:.4f}" for j, v in enumerate(row)) for i, row in enumerate(x)]
    (tmp_path / "rows.libsvm").write_text("\n".join(lines) + "\n")
    from lambdaml_core.data.partition import partition

    partition(tmp_path / "rows.libsvm", f"file://{tmp_path}/part", shards=2)
    trained = run(f"file://{tmp_path}/part", store=str(tmp_path / "store"))
    assert_found(trained.model, x)
    again = run(f"file://{tmp_path}/part", store=str(tmp_path / "store"), init_from=trained)
    assert again.record["rounds"] == 1


def test_the_command_line_from_a_table_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> Any:
        assert main(words) == 0
        return json.loads(capsys.readouterr().out)

    x = rows()
    table = "a,b,c\n" + "\n".join(",".join(f"{v:.4f}" for v in row) for row in x) + "\n"
    (tmp_path / "rows.csv").write_text(table)
    (tmp_path / "job.toml").write_text(
        f'workers = 2\nepochs = 10\nstore = "{tmp_path}/store"\n[data]\nsource = "{tmp_path}/rows.csv"\n'
        '[model]\nname = "kmeans"\nclusters = 3\n[optimizer]\nname = "em"\n'
    )
    record = command("train", str(tmp_path / "job.toml"), "--json")
    assert record["stop_reason"] == "converged"
    model, source = f"{tmp_path}/store/runs/{record['run']}/model", str(tmp_path / "rows.csv")
    assert_found(lambdaml_core.load(model), {name: x[:, i] for i, name in enumerate("abc")})
    predicted = command("predict", model, source, "--json")["predictions"]
    assert sorted(set(predicted)) == [0, 1, 2]
    assert command("evaluate", model, source, "--json")["loss"] == pytest.approx(record["train_loss"], rel=0.2)


def test_a_model_without_statistics_is_refused_before_anything_starts() -> None:
    with pytest.raises(NotSupported, match=r"em cannot train the model logistic_regression, .* SupportsStatistics"):
        run(rows(), np.arange(300) % 2, model="logistic_regression")


def test_models_that_need_labels_still_ask_for_them() -> None:
    with pytest.raises(JobError, match="labels are missing"):
        run(rows(), model="logistic_regression", optimizer="ga_sgd")
