"""What the workers of a law train: a model whose bytes are the same on every machine, whatever adds the numbers up.

Rows are whole numbers, batches and step size powers of two, and a hinge loss has slopes of 1 and -1: no sum and no
product is ever rounded, so there is one right answer, for threads here and for functions on another processor.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.specs import Reference

ROWS, FEATURES, BATCH = 256, 4, 32
HEARTBEAT_S = 0.2


def rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(ROWS, FEATURES) of -1, 0 and 1, and a label for each."""
    rng = np.random.default_rng(5)
    return rng.integers(-1, 2, (ROWS, FEATURES)).astype(np.float32), rng.integers(0, 2, ROWS)


def make_job(provider: Reference | None, store: str, *, workers: int, rounds: int, late_s: float = 0.0) -> Job:
    """A job for the rows above.

    Args:
        provider: None = ``inline``.
        store: URL; collectives exchange there, too.
        late_s: how much longer each request of a collective takes.
    """
    query = f"{'&' if '?' in store else '?'}fault_delay=1&fault_delay_s={late_s}"
    settings: dict[str, Any] = {
        "store": store,
        "channel": f"fault+{store}{query}" if late_s else store,
        "workers": workers,
        "batch_size": BATCH,
        "rounds": rounds,
        "model": "svm",
        "optimizer": {"name": "ga_sgd", "learning_rate": 2.0**-12},
        "data": {"validation": 0.0},
        "checkpoint": {"rounds": 10},
        "recovery": {"heartbeat_s": HEARTBEAT_S, "restarts": 3},
        "provider": "inline",
    }
    job = Job.from_mapping(settings)
    return job if provider is None else dataclasses.replace(job, provider=provider)


@functools.cache
def right_model(workers: int, rounds: int) -> str:
    """The SHA-256 of the model that threads of this process train, undisturbed."""
    with tempfile.TemporaryDirectory() as folder:
        record = run_job(make_job(None, f"file://{folder}", workers=workers, rounds=rounds), arrays=rows())
    assert record["model_sha256"] is not None
    return record["model_sha256"]
