"""Logistic regression on a million features of which a row has few: workers send what is not zero, and little else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs_help import make_job
from scipy.sparse import csr_matrix

from lambdaml_core.run.driver.driver import run_job

FEATURES, ROWS, CELLS = 1 << 20, 64, 150


@pytest.mark.parametrize("aggregators", [1, 2])
def test_bytes_are_those_of_the_entries_that_are_not_zero(aggregators: int, tmp_path: Path) -> None:
    """Each row has features of its own, so that a gradient has as many entries as its rows, whoever has which."""
    columns = np.random.default_rng(0).permutation(FEATURES)[: ROWS * CELLS]
    x = csr_matrix((np.ones(ROWS * CELLS, np.float32), columns, np.arange(ROWS + 1) * CELLS), (ROWS, FEATURES))
    y = np.arange(ROWS) % 2

    def sent(rounds: int) -> int:
        job = make_job(
            tmp_path / f"of{rounds}",
            workers=2,
            aggregators=aggregators,
            rounds=rounds,
            batch_size=ROWS,
            data={"validation": 0.0},
            checkpoint={"enabled": False},
        )
        return run_job(job, arrays=(x, y))["bytes"]["sent"]

    contribution, result = ROWS // 2 * CELLS, ROWS * CELLS  # of two workers, one sends what the other one folds
    pairs = (contribution + result) * (4 + 4)  # an index of 32 bits and a float32
    each = (sent(12) - sent(2)) / 10
    assert 0.5 * pairs < each <= 1.2 * pairs
    assert each < FEATURES * 4 / 10
