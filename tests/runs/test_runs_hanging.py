"""A worker that hangs although its heart beats: the others wait for it no longer than they are told to."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from runs_help import cancer, make_job

from lambdaml_core.data.base import Batch
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.worker.heartbeat import CheckedData

RECOVERY = {"heartbeat_s": 0.1, "deadline_s": 1.0, "longest_step_s": 0.5, "restarts": 100}


def test_a_step_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path / "store", provider="inline", workers=3, rounds=120, recovery=RECOVERY)
    quiet = run_job(job, arrays=cancer())
    batch, steps, replaced = CheckedData.batch, itertools.count(), threading.Event()

    def once_endless(self: CheckedData, step: int) -> Batch:
        if next(steps) == 100:
            assert replaced.wait(60)
        return batch(self, step)

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "restarted":
            replaced.set()

    monkeypatch.setattr(CheckedData, "batch", once_endless)
    record = run_job(job, arrays=cancer(), on_event=on_event)
    assert replaced.is_set()
    assert record["attempts"] > 3
    assert record["model_sha256"] == quiet["model_sha256"]
