"""What README and CONTRIBUTING show is run here as it stands there, so that it cannot rot."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"^`(?P<path>[\w./-]+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of(document: str) -> Mapping[str, str]:
    """The code blocks of a document that are whole files: the line above such a block is the path."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return {m["path"]: m["text"] for m in _FILE.finditer(text)}


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python's environment; fails with what it printed if it does."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


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
