"""What README and CONTRIBUTING show is run here as it stands there, so that it cannot rot."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from child_processes import python

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"^`(?P<path>[\w./-]+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(document: str) -> Mapping[str, str]:
    """The code blocks of a document that are whole files: the line above such a block is the path."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return {m["path"]: m["text"] for m in _FILE.finditer(text)}


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python's environment; fails with what it printed if it does."""
    return python("-m", *command, cwd=cwd, **environment)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the data and the job that README speaks of; runs are kept in it."""
    monkeypatch.setenv("LAMBDAML_STORE", str(tmp_path / "store"))
    x, y = points()
    rows = [
        " ".join([str(label), *(f"{i + 1}:{v:.4g}" for i, v in enumerate(row))])
        for row, label in zip(x, y, strict=True)
    ]
    (tmp_path / "train.libsvm").write_text("\n".join(rows) + "\n", encoding="ascii")
    cells = [
        f"{','.join(f'{v:.4g}' for v in row)},{'high' if label else 'low'}" for row, label in zip(x, y, strict=True)
    ]
    for name, lines in (("train.csv", cells), ("new.csv", cells[:100])):
        (tmp_path / name).write_text("\n".join(["a,b,c,d,e,income", *lines]) + "\n", encoding="ascii")
    (tmp_path / "job.toml").write_text(files_of("README.md")["job.toml"], encoding="utf-8")
    return tmp_path


def points() -> tuple[np.ndarray[tuple[int, int]], np.ndarray[tuple[int]]]:
    """2,000 rows of two classes that a line separates well."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000)
    return rng.normal(size=(2000, 5)) + 2 * y[:, None], y


def block(document: str, start: str) -> str:
    """The code block of a document that starts with these words."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (found,) = (b for b in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if b.startswith(start))
    return str(found)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is needed of the checkout to build from, with the plugin of CONTRIBUTING in its place."""
    top = tmp_path_factory.mktemp("checkout")
    for folder in ("lambdaml_core", ".ci"):
        shutil.copytree(ROOT / folder, top / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, top / name)
    for path, text in files_of("CONTRIBUTING.md").items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, encoding="utf-8")
    return top


@pytest.fixture(scope="module")
def plugin(checkout: Path) -> Path:
    return checkout / "plugins" / "lambdaml-sqlite"


@pytest.fixture(scope="module")
def site(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the plugin of CONTRIBUTING is installed."""
    target = tmp_path_factory.mktemp("site")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run("pip", "install", *offline, "--target", target, plugin, cwd=target)
    return target


def test_plugin_of_contributing_keeps_all_laws(plugin: Path, site: Path) -> None:
    done = run("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "tests", cwd=plugin, PYTHONPATH=str(site))
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20, done.stdout


def test_plugin_of_contributing_is_typed_and_clean(checkout: Path, plugin: Path, tmp_path: Path) -> None:
    mypy = ("mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path, "--explicit-package-bases")
    run(*mypy, "lambdaml_sqlite", "tests", cwd=plugin, MYPYPATH=f"{plugin}:{ROOT}")
    for check in (("check",), ("format", "--check")):
        run("ruff", *check, "--no-cache", plugin, cwd=checkout)


def test_plugin_of_contributing_is_listed_with_its_options(site: Path, tmp_path: Path) -> None:
    listing = json.loads(run("lambdaml_core", "plugins", "--json", cwd=tmp_path, PYTHONPATH=str(site)).stdout)
    (row,) = (p for p in listing["plugins"] if p["name"] == "sqlite")
    assert (row["kind"], row["distribution"], row["state"]) == ("storage", "lambdaml-sqlite", "ok")
    shown = run("lambdaml_core", "plugins", "show", "sqlite", cwd=tmp_path, PYTHONPATH=str(site)).stdout
    assert "busy_s" in shown


def test_wheels_of_plugins_are_built_beside_the_core(checkout: Path, tmp_path: Path) -> None:
    """CI builds and installs whatever lies in plugins/, by the same function."""
    command = 'source .ci/environment.sh; build_wheels "$0" "$1"'
    arguments = ["bash", "-ec", command, sys.executable, str(tmp_path)]
    done = subprocess.run(arguments, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(p.name.split("-")[0] for p in tmp_path.glob("*.whl")) == ["lambdaml", "lambdaml_sqlite"]
    assert len(list(tmp_path.glob("*.tar.gz"))) == 2


def test_contributing_names_every_room() -> None:
    tree = block("CONTRIBUTING.md", "lambdaml_core/")
    kept = [p for p in (ROOT / "lambdaml_core").iterdir() if not p.name.startswith("_") and p.name != "py.typed"]
    assert not [p.name for p in kept if f" {p.name}{'/' if p.is_dir() else ''} " not in tree]


def test_python_of_readme_works(folder: Path) -> None:
    np.savez(folder / "points.npz", x=points()[0], y=points()[1])
    given = "import numpy as np\nx, y = np.load('points.npz').values()\n"
    shown = block("README.md", "from lambdaml_core")
    assert len([line for line in shown.splitlines() if line]) == 5, "five lines were promised"
    (folder / "five_lines.py").write_text(given + shown, encoding="utf-8")
    done = run("five_lines", cwd=folder)
    metrics, predicted = done.stdout.strip().splitlines()
    assert "'accuracy': 0.9" in metrics
    assert len(predicted.strip("[]").split()) == 5
    assert (folder / "my-model" / "model.safetensors").exists()


def test_estimators_of_readme_work(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", x=points()[0], y=points()[1])
    given = "import numpy as np\nx, y = np.load('points.npz').values()\n"
    (tmp_path / "pipeline.py").write_text(given + block("README.md", "from sklearn"), encoding="utf-8")
    score, *probabilities = run("pipeline", cwd=tmp_path).stdout.replace("[", " ").replace("]", " ").split()
    assert float(score) > 0.9
    assert len(probabilities) == 10


def test_quickstart_gives_the_figures_of_readme(folder: Path) -> None:
    runs = json.loads(run("lambdaml_core", "quickstart", "--json", cwd=folder).stdout)["runs"]
    heading, *lines = block("README.md", "                          K = 1").splitlines()
    assert [f"K = {r['aggregators']}" for r in runs] == re.split(" {2,}", heading.strip())
    names = {
        "validation loss": "loss",
        "AUC": "auc",
        "accuracy": "accuracy",
        "accuracy of the majority": "baseline_accuracy",
        "rounds": "rounds",
    }
    for line in lines:
        what, *figures = re.split(" {2,}", line)
        assert [float(f) for f in figures] == pytest.approx([r[names[what]] for r in runs], rel=2e-3)


def test_commands_of_readme_work(folder: Path) -> None:
    commands = [shlex.split(line, comments=True) for line in block("README.md", "lambdaml train").splitlines()]
    assert [words[:2] for words in commands][:2] == [["lambdaml", "train"], ["lambdaml", "runs"]]
    name = "RUN"
    for _, *words in commands:
        run("lambdaml_core", *(name if word == "RUN" else word for word in words), cwd=folder)
        (record,) = json.loads(run("lambdaml_core", "runs", "--json", cwd=folder).stdout)["runs"]
        name = record["run"]
    assert (record["status"], record["workers"], record["aggregators"]) == ("succeeded", 4, 2)
    assert record["stop_reason"] in ("loss", "rounds")
    assert record["accuracy"] > 0.9
    assert (folder / "predictions.csv").read_text().startswith("prediction,p_high,p_low\n")
    assert (folder / "report.html").stat().st_size > 10_000


def test_json_of_readme_is_what_commands_print(folder: Path) -> None:
    printed = json.loads(run("lambdaml_core", "train", "job.toml", "--json", cwd=folder).stdout)
    (row,) = (
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `train`")
    )
    promised = set(re.findall(r"`(\w+)`", row.split("|")[2])) - {"succeeded"}
    nested = {key for value in printed.values() if isinstance(value, dict) for key in value}
    assert promised <= set(printed) | nested
    assert printed["schema"] == 1


def test_example_of_arrays_works(tmp_path: Path) -> None:
    done = run("train_arrays", cwd=tmp_path, PYTHONPATH=str(ROOT / "examples"))
    assert "predicted" in done.stdout
    assert "'accuracy': 0.7" in done.stdout


def test_example_of_census_works_on_the_sample_and_on_a_file(folder: Path) -> None:
    job = ROOT / "examples" / "census.toml"
    short = ("train", job, "--set", "rounds=30", "--json")
    on_sample = json.loads(run("lambdaml_core", *short, cwd=folder).stdout)
    assert on_sample["loss"] < 0.5, "30 of 400 rounds are well below the 0.69 of knowing nothing"
    on_file = json.loads(run("lambdaml_core", *short, "--set", "data.source=train.libsvm", cwd=folder).stdout)
    assert on_file["accuracy"] > 0.9
