"""A home with a run in it, the page of that run, made once for all tests of pages, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from cli_help import lambdaml, printed, write_job

from lambdaml_core.run.records.history import RunHistory, read_history


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job, its data, and a store with one run of it."""
    folder = write_job(tmp_path_factory.mktemp("home"))
    settings = ["--set", "epochs=30", "--set", "workers=3", "--set", "name=first"]
    printed(lambdaml(folder, "train", "job.toml", "--json", *settings))
    return folder


@pytest.fixture(scope="session")
def history(home: Path) -> RunHistory:
    (run,) = [path.name for path in (home / "store" / "runs").glob("*-first-*")]
    return read_history(f"file://{home}/store", run)


@pytest.fixture(scope="session")
def report(home: Path, history: RunHistory) -> Path:
    """The page of that run, as the command writes it."""
    done = lambdaml(home, "report", history["record"]["run"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {history['record']['run']}.html\n"
    return home / f"{history['record']['run']}.html"


@pytest.fixture(scope="module")  # other modules' tests count the processes that are left
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
