"""Runs on storages whose values are small: data, checkpoints, models and messages go through them in pieces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from runs_help import cancer, files_below, make_job

from lambdaml_core.run.api import train
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.storage.file import FileStorage

MOST = 1024


def test_the_model_is_the_same_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_job(make_job(tmp_path / "whole", provider="inline", workers=3), arrays=cancer())
    assert max(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()) > MOST

    monkeypatch.setattr(FileStorage, "caps", dataclasses.replace(FileStorage.caps, max_value_bytes=MOST))
    small = tmp_path / "small"
    cut = run_job(make_job(small, provider="inline", workers=3), arrays=cancer())
    assert cut["model_sha256"] == whole["model_sha256"]
    stored = [path for path in (small / "runs").rglob("*") if path.is_file() and path.parent.name != "model"]
    assert max(path.stat().st_size for path in stored) <= MOST
    clean(f"file://{small}")
    assert files_below(small) == []


def test_a_model_larger_than_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileStorage, "caps", dataclasses.replace(FileStorage.caps, max_value_bytes=MOST))
    x = np.random.default_rng(0).normal(size=(64, 5000))
    run = train(x, x[:, 0] > 0, workers=2, epochs=1, batch_size=32, provider="inline", store=str(tmp_path))
    assert run.model.params.nbytes > 4 * MOST
    loss = run.metrics["loss"]
    assert loss is not None
    assert np.isfinite(loss)
