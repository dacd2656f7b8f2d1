"""Wheels, built from the checkout and looked into."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(project: Path, outdir: Path, *options: str) -> Path:
    """Build with the tools of this environment; the path of the wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(outdir), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = outdir.glob("*.whl")
    return wheel


def contents(wheel: Path) -> Mapping[str, bytes]:
    """The bytes of each file in it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
