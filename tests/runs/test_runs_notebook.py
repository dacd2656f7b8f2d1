"""A notebook's way: arrays in, a model out, nothing on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs_help import cancer, keys_of

from lambdaml_core import train
from lambdaml_core.run.driver.remote import clean


def test_training_without_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    x, y = cancer()
    run = train(x, y, provider="inline", store="memory://notebook", workers=2, epochs=5)
    assert run.model.evaluate(x, y)["auc"] > 0.98
    assert clean("memory://notebook") == [run.record["run"]]
    assert keys_of("memory://notebook") == []
    assert list(tmp_path.iterdir()) == []
