"""What README and CONTRIBUTING show is run here as it stands there, so that it cannot rot."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from child_processes import python
from held_runs import held

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"^`(?P<path>[\w./-]+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(document: str) -> Sequence[tuple[str, str]]:
    """Path and text of the code blocks of a document that are files, or pieces of such: the line above is the path."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [(m["path"], m["text"]) for m in _FILE.finditer(text)]


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
    (tmp_path / "job.toml").write_text(dict(files_of("README.md"))["job.toml"], encoding="utf-8")
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
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which examples/third_party_plugin is installed."""
    copy, target = tmp_path_factory.mktemp("example") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "examples" / "third_party_plugin", copy, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run("pip", "install", *offline, "--target", target, copy, cwd=target)
    return target


def commands(text: str) -> list[list[str]]:
    """The words of each line, without its comment."""
    return [shlex.split(line, comments=True) for line in text.splitlines()]


def test_pieces_of_contributing_stand_in_their_files() -> None:
    found = files_of("CONTRIBUTING.md")
    assert len(found) >= 6
    for path, text in found:
        whole = (ROOT / path).read_text(encoding="utf-8")
        for piece in re.split(r"\n{2,}", text.strip("\n")):
            assert piece in whole, f"{path} has no\n{piece}"


def test_first_commands_of_contributing_are_what_new_tells(tmp_path: Path) -> None:
    """What is told is done by tests/run, for every kind of plugin in an environment of its own."""
    (_, *words), *following = commands(block("CONTRIBUTING.md", "lambdaml plugins new"))
    told = json.loads(run("lambdaml_core", *words, "--json", cwd=tmp_path).stdout)["next"]
    assert [shlex.split(command) for command in told] == following


def test_commands_of_contributing_work(example: Path, folder: Path) -> None:
    """The first and the last, pip and pytest, are what tests/run does with it."""
    _, *lines, _ = commands(block("CONTRIBUTING.md", "pip install . './examples"))
    assert [words[:2] for words in lines] == [["lambdaml", "plugins"], ["lambdaml", "plugins"], ["lambdaml", "train"]]
    printed = [run("lambdaml_core", *words, cwd=ROOT, PYTHONPATH=str(example)).stdout for _, *words in lines]
    assert "busy_s" in printed[0]
    assert "keeps all" in printed[1]
    (record,) = json.loads(run("lambdaml_core", "runs", "--json", cwd=folder).stdout)["runs"]
    assert (record["status"], record["optimizer"], record["workers"]) == ("succeeded", "signsgd", 4)
    assert record["channel"].startswith("sqlite:")
    assert record["loss"] < 0.25


BLOCKS = {
    "README.md": {
        "examples/quickstart": "test_quickstart_gives_the_figures_of_readme",
        "                          K = 1": "test_quickstart_gives_the_figures_of_readme",
        "tests/run": "what runs this",
        "from lambdaml_core": "test_python_of_readme_works",
        "from sklearn": "test_estimators_of_readme_work",
        "workers = 4": "test_commands_of_readme_work",
        "lambdaml plan job.toml": "test_commands_of_readme_work",
        "lambdaml train examples/chaos.toml": "test_commands_on_runs_of_readme_work",
        "  lambdaml train job.toml": "a picture",
        "lambdaml plugins check": "test_commands_on_plugins_of_readme_work",
        "pip install . ./plugins/lambdaml-aws-lambda": "test_commands_on_functions_of_readme_are_understood",
    },
    "CONTRIBUTING.md": {
        "lambdaml_core/ ": "test_contributing_names_every_room",
        "tests/run": "what runs this",
        "lambdaml plugins new": "test_first_commands_of_contributing_are_what_new_tells",
        "pip install . ": "test_commands_of_contributing_work",
    },
}
"""By which test each code block is run, by how it starts; those that are pieces of files are compared with these."""


@pytest.mark.parametrize("document", BLOCKS)
def test_every_block_is_run(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    pieces = [piece for path, piece in files_of(document) if (ROOT / path).exists()]
    blocks = [b for b in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if b not in pieces]
    known = BLOCKS[document]
    assert [b for b in blocks if not any(b.startswith(start) for start in known)] == []
    assert [start for start in known if not any(b.startswith(start) for b in blocks)] == []
    assert {test for test in known.values() if test.startswith("test_")} <= set(globals())


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
    (_, *plan), (_, *first), *others = commands(block("README.md", "lambdaml plan job.toml"))
    assert (plan[0], first[0]) == ("plan", "train")
    assert json.loads(run("lambdaml_core", *plan, "--json", cwd=folder).stdout)["aggregators"] == 2
    run("lambdaml_core", *first, cwd=folder)
    (record,) = json.loads(run("lambdaml_core", "runs", "--json", cwd=folder).stdout)["runs"]
    for _, *words in others:
        run("lambdaml_core", *(record["run"] if word == "RUN" else word for word in words), cwd=folder)
    assert (record["status"], record["workers"], record["aggregators"]) == ("succeeded", 4, 2)
    assert record["stop_reason"] in ("loss", "rounds")
    assert record["accuracy"] > 0.9
    assert (folder / "predictions.csv").read_text().startswith("prediction,p_high,p_low\n")
    assert (folder / "report.html").stat().st_size > 10_000


def test_commands_on_runs_of_readme_work(folder: Path) -> None:
    """On a shorter run with fewer kills. Nothing is left to resume or cancel then, and both say so."""
    (_, *chaos), *others = commands(block("README.md", "lambdaml train examples/chaos.toml"))
    assert chaos[-2:] == ["--chaos", "30"]
    with held(folder / "held", 290) as gate:  # not over before the kills
        gate.let_go()
        words = [*chaos[:-1], "2", "--set", "rounds=300", *gate.words, "--json"]
        done = json.loads(python("-c", gate.chaos(2), *words, cwd=ROOT).stdout)
    assert done["equal"] is True
    for command, refused in zip(others, (False, True, True, False), strict=True):
        _, *words = (done["run"] if word == "RUN" else word for word in command)
        ran = subprocess.run(
            [sys.executable, "-m", "lambdaml_core", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, "has" in ran.stderr) == (int(refused), refused), ran.stderr


def promised_keys(command: str) -> set[str]:
    """What README says that a command prints with --json, words that are values left out."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{command}`"))
    states = {"running", "stalled", "succeeded", "failed", "cancelled", "ok", "warning", "problem"}
    return set(re.findall(r"`(\w+)`", row.split("|")[2])) - states


def test_commands_on_plugins_of_readme_work(folder: Path) -> None:
    """The first, which takes longest, is what tests/cli looks at closely."""
    first, *others = commands(block("README.md", "lambdaml plugins check"))
    assert " ".join(first).startswith("lambdaml plugins check file:///")
    for _, *words in others:
        printed = json.loads(run("lambdaml_core", *words, "--json", cwd=folder).stdout)
        promised = promised_keys(f"plugins {words[1]}")
        assert promised <= set(printed) | {key for law in printed.get("laws", ()) for key in law}
    assert (folder / "lambdaml-poisson" / "pyproject.toml").exists()


def test_commands_on_functions_of_readme_are_understood(folder: Path) -> None:
    """tests/aws does the same on the stand-in. The plan asks nobody; the others work with workers of this machine."""
    _, plan, doctor, train, teardown = commands(block("README.md", "pip install . ./plugins/lambdaml-aws-lambda"))
    nobody = {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(folder)}
    planned = run("lambdaml_core", *plan[1:], "--json", cwd=folder, LAMBDAML_STORE="s3://nobody/runs", **nobody)
    assert json.loads(planned.stdout)["permissions"].keys() == {"user", "worker"}
    run("lambdaml_core", *doctor[1:], cwd=folder)
    assert json.loads(run("lambdaml_core", *train[1:], "--json", cwd=folder).stdout)["status"] == "succeeded"
    assert teardown[:2] == ["lambdaml", "teardown"]
    assert "--all" in run("lambdaml_core", "teardown", "--help", cwd=folder).stdout


def test_json_of_readme_is_what_commands_print(folder: Path) -> None:
    printed = json.loads(run("lambdaml_core", "train", "job.toml", "--json", cwd=folder).stdout)
    nested = {key for value in printed.values() if isinstance(value, dict) for key in value}
    assert promised_keys("train") <= set(printed) | nested
    assert printed["schema"] == 1
    looked = json.loads(run("lambdaml_core", "doctor", "job.toml", "--json", cwd=folder).stdout)
    assert promised_keys("doctor") <= set(looked) | set(looked["findings"][0])


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
