"""A worker that hangs although its heart beats: the others wait for it no longer than they are told to."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from runs_help import cancer, make_job

from lambdaml_core.data.base import Batch
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.worker.heartbeat import CheckedData

RECOVERY = {"heartbeat_s": 0.1, "deadline_s": 1.0, "longest_step_s": 0.5, "restarts": 100}


def test_a_step_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, Any] = {"provider": "inline", "workers": 3, "rounds": 120}
    quiet = run_job(make_job(tmp_path / "store", **keys), arrays=cancer())
    batch, steps, replaced = CheckedData.batch, itertools.count(), threading.Event()
    hanging: dict[str, tuple[int, int]] = {}  # by rank, the generation and attempt

    def once_endless(self: CheckedData, step: int) -> Batch:
        _, generation, rank, attempt, _ = threading.current_thread().name.split("/")
        process = int(generation), int(attempt)
        if next(steps) == 100:
            hanging[rank] = process
            assert replaced.wait(240)
        elif rank in hanging and process > hanging[rank]:
            replaced.set()
        return batch(self, step)

    monkeypatch.setattr(CheckedData, "batch", once_endless)
    record = run_job(make_job(tmp_path / "store", **keys, recovery=RECOVERY), arrays=cancer())
    assert replaced.is_set()
    assert record["model_sha256"] == quiet["model_sha256"]
