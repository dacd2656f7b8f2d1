"""The settings that the benchmark ``linear`` states reach scikit-learn's optima on real data, through whole runs."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from linear import MODELS, SETTINGS, TARGETS, measure

REAL = ("census", "digits", "cancer")
EVERY = list(itertools.product(REAL, MODELS, TARGETS))
if os.environ.get("LAMBDAML_SLOW") != "1":  # each model on each data, in turn by one optimizer and the other
    EVERY = [
        (data, model, [*TARGETS][(i + j) % len(TARGETS)])
        for i, data in enumerate(REAL)
        for j, model in enumerate(MODELS)
    ]


@pytest.mark.parametrize(("data", "model", "optimizer"), EVERY)
def test_objective_comes_down_to_scikit_learns(data: str, model: str, optimizer: str, tmp_path: Path) -> None:
    row = measure(data, model, optimizer, workers=2, provider="inline", store=str(tmp_path))
    assert row.rounds == SETTINGS[data, model, optimizer].rounds
    assert row.gap <= TARGETS[optimizer]
    assert row.gap >= -1e-4, "no solver is below the optimum: the references are those of another objective"
