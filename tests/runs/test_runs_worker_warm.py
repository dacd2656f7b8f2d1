"""Several workers after each other in one process, as in a function that is kept warm: none leaves anything behind."""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from workers_help import Counted, Run

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.worker.worker import run_worker


class Alone:
    """The launcher of a worker without any other: its successors wait for their turn."""

    def __init__(self) -> None:
        self.launched: list[WorkerRef] = []

    def launch(self, ref: WorkerRef) -> str:
        self.launched.append(ref)
        return "next"

    def handle(self) -> str:
        return "this"

    def remaining_s(self) -> float:
        return math.inf


class Before:
    """What one worker could leave for the next."""

    def __init__(self) -> None:
        self._threads, self._surroundings = set(threading.enumerate()), self._now()

    def _now(self) -> tuple[Any, ...]:
        return (dict(os.environ), list(sys.path), Path.cwd())

    def check(self) -> None:
        """Nothing is changed, and no thread is new; one of another test may have ended."""
        assert set(threading.enumerate()) <= self._threads
        assert self._now() == self._surroundings


def start(run: Run, ref: WorkerRef | None = None, **keys: Any) -> tuple[int, Alone]:
    launcher = Alone()
    code = run_worker(ref or run.ref(0), launcher=launcher, log=lambda text: None, **keys)
    return code, launcher


def seconds(run: Run) -> float:
    (end,) = run.read("ends/").values()
    return float(end["totals"]["seconds"]["start"])


def test_the_age_is_that_of_the_invocation(tmp_path: Path) -> None:
    """And not that of the process, which may have waited for long."""
    warm, old = Run(tmp_path / "a", workers=1), Run(tmp_path / "b", workers=1)
    before = Before()
    assert start(warm, age_s=0.0)[0] == 0
    assert start(old, age_s=1000.0)[0] == 0
    before.check()
    assert seconds(warm) < 1000.0 <= seconds(old)
    assert warm.result()["files"] == old.result()["files"]


def test_after_a_hand_over_and_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, run = Run(tmp_path / "quiet", workers=1), Run(tmp_path / "run", workers=1)
    before = Before()
    monkeypatch.setattr("lambdaml_core.run.worker.attempt.TimeLimit", type("Limit", (Counted,), {"rounds": 15}))
    codes, ref = [], run.ref(0)
    while True:
        code, launcher = start(run, ref, age_s=0.0)
        codes.append(code)
        if not launcher.launched:
            break
        (ref,) = launcher.launched
    assert codes == [0, 0, 0]
    assert start(run, run.ref(0)._replace(spec_sha256="another"))[0] == 1
    monkeypatch.undo()
    assert start(quiet)[0] == 0
    before.check()
    assert run.result()["files"][WEIGHTS] == quiet.result()["files"][WEIGHTS]
