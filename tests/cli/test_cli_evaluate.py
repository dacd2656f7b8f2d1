"""``lambdaml evaluate``: figures of a model on labelled raw files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_help import lambdaml, printed
from sklearn import metrics

from lambdaml_core import load, train

LINES = 4000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of LIBSVM rows, and a folder of such files."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(LINES, 3)).round(3)
    y = np.where(x @ [1, -2, 0.5] + rng.normal(size=LINES) > 0, 2, 1)
    lines = [f"{label} 1:{a} 2:{b} 3:{c}\n" for label, (a, b, c) in zip(y, x, strict=True)]
    (folder / "rows").mkdir()
    for i in range(4):
        (folder / "rows" / f"{i}.libsvm").write_text("".join(lines[i * 1000 : (i + 1) * 1000]))
    np.savez(folder / "all.npz", x=x, y=y)
    run = train(x[:500], y[:500], provider="inline", epochs=5, store=(folder / "store").as_uri(), name="told")
    run.model.save(folder / "model")
    return folder


def test_figures_add_up_over_files(home: Path) -> None:
    found = printed(lambdaml(home, "evaluate", "model", "rows", "--json"))
    with np.load(home / "all.npz") as rows:
        x, y = rows["x"], rows["y"]
    model = load(home / "model")
    assert found["rows"] == LINES
    assert found["accuracy"] == metrics.accuracy_score(y, model.predict(x))
    assert found["baseline_accuracy"] == max(np.bincount(y)) / LINES
    assert found["loss"] == pytest.approx(metrics.log_loss(y, model.predict_proba(x)), rel=1e-5)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(y, model.decision_function(x)), abs=1e-3)
    assert found == printed(lambdaml(home, "evaluate", "model", "rows/*.libsvm", "--json"))


def test_every_format_gives_the_same_figures(home: Path) -> None:
    ours = printed(lambdaml(home, "evaluate", "model", "rows", "--json"))
    theirs = printed(lambdaml(home, "evaluate", "model", "all.npz", "--json"))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_people_get_a_table_and_a_run_is_a_model(home: Path) -> None:
    [run] = [p.name for p in (home / "store" / "runs").iterdir()]
    done = lambdaml(home, "evaluate", run, "rows")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "figure",
        "loss",
        "accuracy",
        "baseline_accuracy",
        "auc",
        "rows",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 1:1\n", "rows.libsvm: the model has no class 3"),
        ("1 1:1\n2 4:1\n", "rows.libsvm, line 2: "),
        ("1 1:x\n", "rows.libsvm, line 1: "),
        ("\n", "no rows"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(home: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.libsvm").write_text(text)
    done = lambdaml(home, "evaluate", "model", str(tmp_path / "rows.libsvm"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_figure_without_a_meaning_is_a_dash(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.libsvm").write_text("1 1:1\n")
    done = lambdaml(home, "evaluate", "model", str(tmp_path / "rows.libsvm"))
    assert ["auc", "-"] in [line.split() for line in done.stdout.splitlines()]


def test_rows_without_labels_can_only_be_predicted(home: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3)))
    assert lambdaml(home, "predict", "model", str(tmp_path / "x.npz")).returncode == 0
    done = lambdaml(home, "evaluate", "model", str(tmp_path / "x.npz"))
    assert done.returncode == 2
    assert "the label is missing" in done.stderr
