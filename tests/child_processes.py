"""Processes of a test: started and waited for, or looked at."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path


def python(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with these words on its command line; fails with what it printed if it does."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def children(pid: int | None = None) -> list[int]:
    """The processes that a process, by default this one, has started and not waited for.

    Without multiprocessing's resource tracker: other tests' pools leave it to the end of the session.
    """
    found: list[int] = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        with _ended():
            found += map(int, (task / "children").read_text().split())
    return [child for child in found if _counts(child)]


def _counts(pid: int) -> bool:
    with _ended():
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _ended() -> contextlib.suppress:
    """Where a thread or process may have ended since it was listed."""
    return contextlib.suppress(FileNotFoundError, ProcessLookupError)
