"""The real command line, each call a process of its own, in a home that holds a job and its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]

JOB = """
workers = 2
epochs = 3
batch_size = 50
provider = "inline"
[data]
source = "rows.libsvm"
[optimizer]
learning_rate = 1.0
"""


def write_job(folder: Path) -> Path:
    """Put a job and its data into an empty home."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = (x.sum(axis=1) + 0.5 * rng.normal(size=300) > 0).astype(int)
    lines = [f"{b} " + " ".join(f"{i + 1}:{v:.5f}" for i, v in enumerate(row)) for row, b in zip(x, y, strict=True)]
    (folder / "rows.libsvm").write_text("\n".join(lines) + "\n")
    (folder / "job.toml").write_text(JOB)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the user's own is touched."""
    return {**os.environ, "HOME": str(folder), "LAMBDAML_STORE": str(folder / "store"), "PYTHONPATH": str(ROOT)}


def lambdaml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder`` and wait for it."""
    command = [sys.executable, "-m", "lambdaml_core", *words]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON object on standard output."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Its files with their content, and its folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}
