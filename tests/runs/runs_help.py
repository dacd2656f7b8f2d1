"""Real data and settings for whole runs."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from lambdaml_core.run.job import Job
from lambdaml_core.storage import open_storage

Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]

ROOT = Path(__file__).parents[2]


@functools.cache
def cancer() -> Arrays:
    """The breast-cancer data, standardised: 569 rows, a number that no number of workers used here divides."""
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y


def write_libsvm(path: Path) -> Path:
    """The same as a LIBSVM file."""
    x, y = cancer()
    rows = (f"{b} " + " ".join(f"{i + 1}:{v:.6g}" for i, v in enumerate(row)) for row, b in zip(x, y, strict=True))
    path.write_text("\n".join(rows) + "\n")
    return path


def make_job(store: Path | str, **keys: Any) -> Job:
    """A quick job."""
    values: dict[str, Any] = {
        "store": str(store),
        "batch_size": 64,
        "rounds": 40,
        "optimizer": {"name": "ga_sgd", "learning_rate": 0.3, "momentum": 0.9, "l2": 1e-3},
    }
    return Job.from_mapping(values | keys)


def keys_of(url: Path | str) -> list[str]:
    """Every key in a storage."""
    storage = open_storage(str(url) if "://" in str(url) else f"file://{url}")
    try:
        return list(storage.list(""))
    finally:
        storage.close()


def files_below(folder: Path) -> list[Path]:
    """Every file, with or without a key."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def slow_channel(store: Path) -> str:
    """Beside a store, for runs that are to be harmed on the way: each request is late, so that a driver sees their
    progress however quick the machine is, and no processor is kept busy by it."""
    return f"fault+file://{store}-channel?fault_delay=1&fault_delay_s=0.004"


def scratch_of(run: str) -> Path:
    """Where the messages of a local run go by default."""
    return Path(f"/dev/shm/lambdaml-{os.getuid()}") / run  # noqa: S108
