"""``lambdaml predict``: a model and raw files of any format become CSV, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_help import environment, everything_in, lambdaml, printed

from lambdaml_core import SavedModel, train

LABELS = ['said "no"', "yes, certainly", "maybe"]


def rows(n: int = 120) -> pd.DataFrame:
    """Three classes whose names need quotes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    words = rng.choice(["red", "green"], n)
    number = np.where(words == "red", 2, (x[:, 0] > 0).astype(int))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "word": words, "label": np.take(LABELS, number)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its run, and files to predict on."""
    folder = tmp_path_factory.mktemp("home")
    rows().to_csv(folder / "rows.csv", index=False)
    rows().drop(columns="label").to_parquet(folder / "rows.parquet")
    store = (folder / "store").as_uri()
    run = train(folder / "rows.csv", provider="inline", workers=2, epochs=20, batch_size=30, store=store, name="rows")
    run.model.save(folder / "model")
    np.savez(folder / "x.npz", x=rows()[["a", "b"]].to_numpy())
    numbers = train(rows()[["a", "b"]].to_numpy(), rows()["a"], provider="inline", model="least_squares", store=store)
    numbers.model.save(folder / "numbers")
    return folder


@pytest.fixture(scope="module")
def model(home: Path) -> SavedModel:
    from lambdaml_core import load

    return load(home / "model")


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_are_those_of_the_model_in_the_order_of_the_file(home: Path, model: SavedModel) -> None:
    done = lambdaml(home, "predict", "model", "rows.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("prediction\n")
    assert [row["prediction"] for row in table(done.stdout)] == model.predict(rows()).tolist()


def test_probabilities_have_a_column_for_each_class(home: Path, model: SavedModel) -> None:
    found = table(lambdaml(home, "predict", "model", "rows.csv", "--proba").stdout)
    assert list(found[0]) == ["prediction", *(f"p_{label}" for label in model.labels)]
    numbers = [[float(row[f"p_{label}"]) for label in model.labels] for row in found]
    np.testing.assert_allclose(numbers, model.predict_proba(rows()), rtol=1e-8)


def test_the_model_can_be_a_url_or_a_run_and_the_data_any_format(home: Path) -> None:
    expected = lambdaml(home, "predict", "model", "rows.csv").stdout
    [run] = [p.name for p in (home / "store" / "runs").iterdir() if "rows" in p.name]
    for name, data in [((home / "model").as_uri(), "rows.csv"), (run, "*.csv"), ("model", "rows.parquet")]:
        assert lambdaml(home, "predict", name, data).stdout == expected
    store = (home / "store").as_uri()
    assert lambdaml(home, "predict", run, "rows.csv", "--store", store).stdout == expected


def test_a_file_is_there_once_all_is_in_it(home: Path, tmp_path: Path) -> None:
    expected = lambdaml(home, "predict", "model", "rows.csv").stdout
    done = lambdaml(home, "predict", "model", "rows.csv", "--out", str(tmp_path / "out.csv"))
    assert (done.returncode, done.stdout) == (0, f"120 predictions: {tmp_path / 'out.csv'}\n")
    assert everything_in(tmp_path) == {"out.csv": expected.encode()}
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o666 & ~mask


def test_a_terminal_sees_how_far_it_is(home: Path, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    words = ["predict", "model", "rows.csv", "--out", str(tmp_path / "out.csv")]
    command = [sys.executable, "-m", "lambdaml_core", *words]
    environ = {**environment(home), "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(command, cwd=home, env=environ, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    assert (done.returncode, done.stdout[:4]) == (0, b"120 ")
    assert b"120 rows" in os.read(screen, 1 << 16)
    os.close(screen)


def test_an_error_half_way_leaves_no_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text((home / "rows.csv").read_text() + "1,2\n")
    before = everything_in(tmp_path)
    done = lambdaml(home, "predict", "model", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out.csv"))
    assert done.returncode == 2
    assert "bad.csv, line 122" in done.stderr
    assert everything_in(tmp_path) == before


def test_numbers_are_written_so_that_float32_comes_back(home: Path) -> None:
    from lambdaml_core import load

    found = table(lambdaml(home, "predict", "numbers", "x.npz").stdout)
    x = rows()[["a", "b"]].to_numpy()
    np.testing.assert_allclose([float(r["prediction"]) for r in found], load(home / "numbers").predict(x), rtol=1e-8)


def test_json_has_the_predictions_or_says_where_they_are(home: Path, model: SavedModel, tmp_path: Path) -> None:
    found = printed(lambdaml(home, "predict", "model", "rows.csv", "--json", "--proba"))
    assert (found["rows"], found["predictions"]) == (120, model.predict(rows()).tolist())
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows()))
    out = str(tmp_path / "out.csv")
    assert printed(lambdaml(home, "predict", "model", "rows.csv", "--json", "--out", out)) == {
        "rows": 120,
        "out": out,
        "schema": 1,
    }


def test_options_of_the_format(home: Path, tmp_path: Path) -> None:
    rows().drop(columns="label").to_csv(tmp_path / "rows.txt", sep=";", index=False)
    words = ["--format", "csv", "--option", "delimiter=;"]
    done = lambdaml(home, "predict", "model", str(tmp_path / "rows.txt"), *words)
    assert done.stdout == lambdaml(home, "predict", "model", "rows.csv").stdout


def test_no_rows_are_a_header_alone(home: Path, tmp_path: Path) -> None:
    rows()[:0].to_csv(tmp_path / "none.csv", index=False)
    assert lambdaml(home, "predict", "model", str(tmp_path / "none.csv")).stdout == "prediction\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "nowhere.csv"], "nowhere.csv"),
        (["mode", "rows.csv"], "'mode' is no directory, and no run in"),
        (["", "rows.csv"], "'' is no directory, and no run in"),
        (["rows.csv", "rows.csv"], "there is no model at rows.csv"),
        (["model", "x.npz"], "takes raw columns"),
        (["numbers", "rows.csv"], "takes features"),
        (["numbers", "x.npz", "--proba"], "least_squares has no probabilities"),
        (["model", "rows.csv", "--out", "rows.csv"], "rows.csv exists already"),
        (["model", "rows.csv", "--out", "no/out.csv"], "no/out.csv cannot be written"),
        (["model", "rows.csv", "--option", "delimiter"], "not KEY=VALUE"),
        (["model", "rows.csv", "--option", "delimeter=;"], "unknown option format.delimeter"),
        (["model", "rows.csv", "--format", "xml"], "unknown data format xml"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_a_hint(home: Path, words: list[str], said: str) -> None:
    before = everything_in(home)
    done = lambdaml(home, "predict", *words)
    assert (done.returncode, done.stdout) == (2, "")
    [error, hint] = done.stderr.splitlines()
    assert said in error
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    assert everything_in(home) == before


def test_a_model_of_a_name_that_no_file_can_have_is_no_fault_of_ours(home: Path) -> None:
    done = lambdaml(home, "predict", "m" * 300, "rows.csv")
    assert done.stderr.startswith("error: ")
    assert "unexpected" not in done.stderr


def test_a_label_that_the_output_has_no_letters_for_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.where(rows()["a"] > 0, "größer", "kleiner")
    train(rows(), labels, provider="inline", store=(tmp_path / "store").as_uri()).model.save(tmp_path / "model")
    words = ["predict", str(tmp_path / "model"), "rows.csv"]
    assert "größer" in lambdaml(home, *words, "--out", "-").stdout
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = lambdaml(home, *words)
    assert done.returncode == 2
    assert "a label has '\\xf6\\xdf', which ascii cannot write" in done.stderr
    assert not (home / "-").exists()


def test_a_directory_that_cannot_be_written(home: Path) -> None:
    done = lambdaml(home, "predict", "model", "rows.csv", "--out", "/proc/out.csv", "--json")
    assert done.returncode == 2
    assert '"error"' in done.stdout
