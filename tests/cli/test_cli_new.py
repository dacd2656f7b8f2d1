"""``lambdaml plugins new``: what it writes works as it stands, and it writes whole packages or nothing.

Their own tests are run by tests/run, each in an environment with nothing but the core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cli_help
import numpy as np
import pytest
from child_processes import python

from lambdaml_core.cli import main
from lambdaml_core.cli.new import KINDS

NAMES = {
    "storage": "acme-kv",
    "optimizer": "own_steps",
    "pattern": "five-statements",
    "model": "far-off",
    "data-format": "json-rows",
    "provider": "here",
}


def folder_of(kind: str) -> str:
    return f"lambdaml-{NAMES[kind].replace('_', '-')}"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command of this Python's environment prints; fails with it if the command does."""
    return str(python("-m", *command, cwd=cwd, **environment).stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one plugin of each kind was written."""
    top = tmp_path_factory.mktemp("new")
    for kind, name in NAMES.items():
        assert main(["plugins", "new", kind, name, "--into", str(top)]) == 0
    return top


@pytest.fixture(scope="module")
def site(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH in which all of them are installed."""
    target = tmp_path_factory.mktemp("site")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run("pip", "install", *offline, "--target", target, *(folder / folder_of(kind) for kind in NAMES), cwd=target)
    return str(target)


def test_there_is_a_plugin_of_every_kind_here() -> None:
    assert set(NAMES) == set(KINDS)


def test_they_are_typed(folder: Path, tmp_path: Path) -> None:
    """By their own settings, all at once: what takes the time is the core."""
    folders = [folder / folder_of(kind) for kind in NAMES]
    settings = ("--config-file", folders[0] / "pyproject.toml", "--cache-dir", tmp_path)
    files = [path for each in folders for path in (each / each.name.replace("-", "_"), each / "tests")]
    run("mypy", *settings, *files, cwd=folder, MYPYPATH=":".join(map(str, [cli_help.ROOT, *folders])))


@pytest.mark.parametrize("name", ["q", "a" * 24, "-".join("a" * 12), "a-23456789-23456789-2345"])
def test_they_are_clean_by_their_own_settings_whatever_their_names(tmp_path: Path, name: str) -> None:
    for kind in NAMES:
        (tmp_path / kind).mkdir()
        assert main(["plugins", "new", kind, name, "--into", str(tmp_path / kind)]) == 0
    run("ruff", "check", "--no-cache", tmp_path, cwd=tmp_path)
    run("ruff", "format", "--check", "--no-cache", tmp_path, cwd=tmp_path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job and its data, of classes and of numbers."""
    home = cli_help.write_job(tmp_path_factory.mktemp("home"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = x @ [1.0, -2.0, 3.0] + np.where(np.arange(300) % 20, 0, 500)
    np.savez(home / "numbers.npz", x=x, y=y)
    return home


def trained(home: Path, site: str, *settings: str) -> Mapping[str, Any]:
    words = [word for setting in settings for word in ("--set", setting)]
    environment = {**cli_help.environment(home), "PYTHONPATH": os.pathsep.join([str(cli_help.ROOT), site])}
    printed = run("lambdaml_core", "train", "job.toml", "--json", *words, cwd=home, **environment)
    record: dict[str, Any] = json.loads(printed)
    assert record["status"] == "succeeded"
    return record


@pytest.fixture(scope="module")
def model(home: Path, site: str) -> str:
    """The model that built-in plugins train, in processes."""
    return str(trained(home, site, "provider=local")["model_sha256"])


def test_a_storage_carries_what_processes_exchange(home: Path, site: str, model: str, tmp_path: Path) -> None:
    places = (f"channel=acme-kv://{tmp_path}/channel", f"store=acme-kv://{tmp_path}/store")
    record = trained(home, site, "provider=local", *places)
    assert record["channel"].startswith("acme-kv://")
    assert record["model_sha256"] == model, "another storage makes no other numbers"


def test_a_pattern_and_a_provider_train_the_same_model(home: Path, site: str, model: str) -> None:
    record = trained(home, site, "provider=here", "communicator=five-statements", "aggregators=2")
    assert record["provider"] == "here"
    assert record["model_sha256"] == model


def test_a_data_format_gives_the_same_rows(home: Path, site: str, model: str) -> None:
    lines = (home / "rows.libsvm").read_text().splitlines()
    rows = [
        {"y": int(label), "x": [float(v.partition(":")[2]) for v in cells]} for label, *cells in map(str.split, lines)
    ]
    (home / "data.json-rows").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert trained(home, site, "provider=local", "data.source=data.json-rows")["model_sha256"] == model


@pytest.mark.parametrize("option", ["learning_rate=0.3", "forget_rounds=10"])
def test_an_optimizer_learns(home: Path, site: str, option: str) -> None:
    record = trained(home, site, "optimizer.name=own_steps", f"optimizer.{option}")
    assert record["optimizer"] == "own_steps"
    assert record["accuracy"] > 0.8


def test_a_model_is_not_drawn_away_by_rows_that_are_far_off(home: Path, site: str) -> None:
    data = "data={ source = 'numbers.npz', validation = 0.0 }"
    fit = ("rounds=300", "optimizer.learning_rate=0.5", data)
    robust = trained(home, site, *fit, "model={ name = 'far-off', delta = 0.1 }")
    squares = trained(home, site, *fit, "model=least_squares")
    assert robust["model"] == "far-off"
    assert robust["train_loss"] < 0.1 * (500 / 20 + 3)
    assert squares["train_loss"] > 1000


def test_its_options_are_shown(site: str, tmp_path: Path) -> None:
    shown = json.loads(run("lambdaml_core", "plugins", "show", "here", "--json", cwd=tmp_path, PYTHONPATH=site))
    (option,) = shown["plugins"][0]["options"]
    assert (option["name"], option["unit"], option["allowed"]) == ("max_duration_s", "s", "> 0")


# --- what the command says


def test_it_says_what_was_written_and_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "--json", "new", "storage", "acme"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = [str(path.relative_to("lambdaml-acme")) for path in Path("lambdaml-acme").rglob("*") if path.is_file()]
    assert said["files"] == sorted(written)
    assert {"pyproject.toml", "README.md", "lambdaml_acme/py.typed", "tests/test_acme_storage.py"} <= set(written)
    assert (said["kind"], said["name"], said["folder"]) == ("storage", "acme", "lambdaml-acme")
    assert said["next"] == [
        "pip install -e './lambdaml-acme[testing]'",
        "pytest ./lambdaml-acme",
        "lambdaml plugins check acme:///tmp/acme",
    ]
    assert main(["plugins", "new", "optimizer", "steps", "--into", str(tmp_path)]) == 0
    *_, install, test, check = capsys.readouterr().out.splitlines()
    assert [install.split()[0], test.split()[0]] == ["pip", "pytest"]
    assert check.strip() == "lambdaml plugins check steps"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", NAMES)
def test_its_readme_says_how_to_install_use_and_check_it(folder: Path, kind: str) -> None:
    readme = (folder / folder_of(kind) / "README.md").read_text()
    for words in ("pip install", "pytest", "mypy", f"plugins show {NAMES[kind]}", f"plugins check {NAMES[kind]}"):
        assert words in readme
    assert "$" not in readme


@pytest.mark.parametrize(
    ("kind", "name", "code", "said"),
    [
        ("storge", "acme", "usage", "did you mean storage?"),
        ("storage", "Acme", "usage", "cannot be the name"),
        ("storage", "", "usage", "cannot be the name"),
        ("storage", "../acme", "usage", "cannot be the name"),
        ("storage", "acme\n", "usage", "cannot be the name"),
        ("storage", "4acme", "usage", "cannot be the name"),
        ("storage", "acme--kv", "usage", "cannot be the name"),
        ("storage", "a" * 25, "usage", "up to 24"),
        ("optimizer", "lambda", "usage", "cannot be the name"),
        ("optimizer", "lambdaml-acme", "usage", "leave lambdaml out: acme"),
        ("storage", "acme_kv", "usage", "write it acme-kv"),
        ("storage", "file", "plugin_conflict", "it is the storage of lambdaml"),
        ("optimizer", "grad_avg", "plugin_conflict", "it is the optimizer of lambdaml"),
        ("optimizer", "file", "plugin_conflict", "it is the storage of lambdaml"),
        ("storage", "s3", "plugin_conflict", "lambdaml-s3"),
        ("model", "gcs", "plugin_conflict", "lambdaml-gcs is a plugin of this project"),
        ("model", "core", "plugin_conflict", "there is a package lambdaml_core"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, code: str, said: str
) -> None:
    words = ["plugins", "new", "--into", str(tmp_path), "--", kind, name]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 2, "an error and a hint"
    assert said in printed.err
    assert main([*words[:2], "--json", *words[2:]]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_plugin_is_taken(site: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(cli_help.ROOT), site])}
    for name, owner in (
        ("far-off", "it is the model of lambdaml-far-off"),
        ("own-steps", "lambdaml-own-steps is inst"),
    ):
        command = [sys.executable, "-m", "lambdaml_core", "plugins", "new", "model", name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert owner in done.stderr


@pytest.mark.parametrize("what", ["folder", "dangling link"])
def test_what_is_there_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    there = tmp_path / "lambdaml-acme"
    if what == "folder":
        there.mkdir()
    else:
        there.symlink_to(tmp_path / "nowhere")
    assert main(["plugins", "new", "storage", "acme", "--into", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["lambdaml-acme"]


@pytest.mark.parametrize("into", ["missing", "file"])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], into: str
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["plugins", "new", "storage", "acme", "--into", str(tmp_path / into)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert cli_help.everything_in(tmp_path) == {"file": b"mine"}


def test_nothing_is_left_of_a_plugin_that_could_not_be_written_whole(tmp_path: Path) -> None:
    """A file may have a kilobyte, which some of them are longer than."""
    command = 'ulimit -f 1; exec "$0" -m lambdaml_core plugins new storage acme'
    environment = os.environ | {"PYTHONPATH": str(cli_help.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "lambdaml-acme cannot be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())
