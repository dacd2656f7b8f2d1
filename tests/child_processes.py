"""A look at the processes that a test has started."""

from __future__ import annotations

import os
from pathlib import Path


def children(pid: int | None = None) -> list[int]:
    """The processes that a process, by default this one, has started and not waited for.

    Without multiprocessing's resource tracker: other tests' pools leave it to the end of the session.
    """
    found: list[int] = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return [child for child in found if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
