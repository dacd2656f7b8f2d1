"""``--max-cost`` and ``--max-time``: a job that is predicted to pass one is not started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_help import lambdaml, printed, write_job
from keeping_provider import install

KEEPING = ("--set", "provider.name=keeping", "--set", "provider.folder=kept")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a job."""
    write_job(tmp_path)
    install(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (["--max-cost", "0.01"], "predicted to cost"),
        (["--max-time", "1"], "predicted to take"),
        (["--set", "limits.cost_usd=0.01"], "predicted to cost"),
        (["--set", "limits.seconds=9", "--max-time", "1"], "predicted to take"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "train"])
def test_a_prediction_above_a_limit(limit: list[str], said: str, command: str, home: Path) -> None:
    done = lambdaml(home, command, "job.toml", *KEEPING, *limit)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "--max-" in done.stderr
    assert len(done.stderr.splitlines()) == 2, "an error and a hint"
    error = json.loads(lambdaml(home, command, "job.toml", *KEEPING, *limit, "--json").stdout)["error"]
    assert said in error["message"]
    assert list((home / "store" / "runs").glob("*")) == []


def test_a_prediction_below_its_limits(home: Path) -> None:
    limits = ("--max-cost", "10", "--max-time", "600")
    assert lambdaml(home, "plan", "job.toml", *KEEPING, *limits).returncode == 0
    assert printed(lambdaml(home, "train", "job.toml", *KEEPING, *limits, "--json"))["status"] == "succeeded"


@pytest.mark.parametrize("limit", [["--max-cost", "0"], ["--max-time", "-1"], ["--set", "limits=1", "--max-time", "1"]])
def test_limits_that_are_none(limit: list[str], home: Path) -> None:
    done = lambdaml(home, "plan", "job.toml", *limit)
    assert done.returncode == 2
    assert "max-" in done.stderr or "limits must be a table" in done.stderr
