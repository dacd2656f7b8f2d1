"""Runs over a server, beside the same runs over files."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_runs import held
from numpy.typing import NDArray

from lambdaml_core.cli import main
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord

SIZE = 3
FEATURES = 30
ROUNDS = 20
OPTIMIZER: dict[str, Any] = {"name": "ga_sgd", "learning_rate": 0.3, "momentum": 0.9}
EVERY = 10
"""Rounds from one checkpoint to the next in runs that are harmed."""


@functools.cache
def points(features: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """569 rows of two classes, a number that no number of workers here divides; fewer where they are long."""
    rng = np.random.default_rng(0)
    few = features >= 1000
    x = rng.normal(size=(13 if few else 569, features))
    x *= 1e-3 if few else 1  # such rows are soon told apart, and no gradient is left to be sent
    return x, (x[:, :5].sum(axis=1) > 0).astype(np.int64)


def make_job(store: str, channel: str | None, **keys: Any) -> Job:
    """A quick job."""
    values: dict[str, Any] = {
        "store": store,
        "channel": channel,
        "workers": SIZE,
        "provider": "inline",
        "batch_size": 64,
        "rounds": ROUNDS,
        "optimizer": OPTIMIZER,
    }
    return Job.from_mapping(values | keys)


def train(store: str, channel: str | None, *, features: int = FEATURES, **keys: Any) -> RunRecord:
    """Run it."""
    return run_job(make_job(store, channel, **keys), arrays=points(features))


@functools.cache
def model_of_files(**keys: Any) -> str:
    """The SHA-256 of the model that the same job gives over files, where nothing befalls it."""
    with tempfile.TemporaryDirectory() as folder:
        record = train(Path(folder).as_uri(), None, **keys)
    assert record["model_sha256"] is not None
    return record["model_sha256"]


def write_job(folder: Path, store: str, channel: str | None) -> Path:
    """The same as a file, with its rows."""
    x, y = points(FEATURES)
    lines = (f"{b} " + " ".join(f"{i + 1}:{v:.17g}" for i, v in enumerate(row)) for row, b in zip(x, y, strict=True))
    (folder / "rows.libsvm").write_text("\n".join(lines) + "\n")
    (folder / "job.toml").write_text(f"""
store = "{store}"
{"" if channel is None else f'channel = "{channel}"'}
workers = {SIZE}
aggregators = "auto"
provider = "inline"
batch_size = 64
rounds = {ROUNDS}
[data]
source = "rows.libsvm"
[optimizer]
name = "ga_sgd"
learning_rate = 0.3
""")
    return folder / "job.toml"


def late(url: str) -> str:
    """The same place, where each request is late, so that a driver sees progress however quick the machine is."""
    return f"fault+{url}{'&' if '?' in url else '?'}fault_delay=1&fault_delay_s=0.004"


LONG: dict[str, Any] = {"rounds": 15 * EVERY, "checkpoint": {"rounds": EVERY}}
"""Of jobs that are harmed on the way: the harm comes when there is a checkpoint."""

SOON: dict[str, Any] = {"recovery": {"restarts": 1}}
"""Of jobs that are given up soon."""


def harmed(store: str, channel: str, harm: Callable[[], None], *, features: int = FEATURES, **keys: Any) -> RunRecord:
    """Run a long job, and do this once when it has a checkpoint; its ranks wait for that half-way."""
    optimizer = {**keys.pop("optimizer", OPTIMIZER), "name": "own_ga_sgd"}
    with tempfile.TemporaryDirectory() as folder, held(Path(folder), LONG["rounds"] // 2) as gate:
        waiting = [harm]

        def on_event(event: Mapping[str, Any]) -> None:
            if event["event"] == "progress" and event["round"] > 2 * EVERY and waiting:
                try:
                    waiting.pop()()
                finally:
                    gate.let_go()

        job = make_job(store, channel, optimizer=optimizer, code=gate.code, **LONG | keys)
        return run_job(job, arrays=points(features), on_event=on_event)


def one_line(error: LambdaMLError, *secrets: str) -> str:
    """Message and hint of an error as it is printed, which must be clear and tell no secret."""
    for text in (error.message, error.hint or ""):
        assert "\n" not in text
        assert "Traceback" not in text
        assert not any(secret in text for secret in secrets), text
    assert error.hint
    return f"{error.message}; {error.hint}"


def lambdaml(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    assert main([*words, "--json"]) == code, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def refused(folder: Path, *words: str, secret: str = "", **environment: str) -> str:
    """What a command in a process of its own says on standard error when it refuses: one line, or two with a hint."""
    done = subprocess.run(
        [sys.executable, "-m", "lambdaml_core", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    assert not secret or secret not in done.stdout + done.stderr
    return done.stderr
