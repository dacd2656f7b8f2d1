"""What checkpoints cost a run: ``python tests/benchmarks/checkpoints.py``.

The same job is run without checkpoints, with the defaults, and with one in every few rounds, in turn. The last shows
what one costs, all told (its share of the training, the writing beside it, results that the channel has to keep), since
there are many: ``cost_s`` is the difference of training times for each, ``share_every_10_s`` what that comes to with
one in ten seconds. ``held_s`` is what training waited for one, and ``cpu_s`` the processor time that all workers took
for it, start included, which a busy machine hardly changes. ``default_ratio`` is the time with the defaults / without.
Medians over repeats; the models are logistic regression of a few features, and one whose checkpoint has many MB.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.storage import open_storage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="small,large")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--features", type=int, default=1_000_000, help="of the large model")
    parser.add_argument("--rounds", type=int, help="default: some seconds' worth")
    parser.add_argument("--every", type=int, help="rounds from one checkpoint to the next where there are many")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--store", help="directory for data and runs; default: a temporary one")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.store) as folder:
        for model in args.models.split(","):
            large = model == "large"
            write = _sparse if large else _dense
            write(f"{folder}/{model}", args.features)
            rounds = args.rounds or (150 if large else 4000)
            every = args.every or (15 if large else 100)
            rows.append(_measure(folder, model, args.workers, rounds, every, args.repeat))
            print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"schema": 1, "workers": args.workers, "rows": rows}))


def _measure(folder: str, model: str, workers: int, rounds: int, every: int, repeat: int) -> dict[str, Any]:
    ways: dict[str, dict[str, Any]] = {
        "off": {"enabled": False},
        "default": {},
        "often": {"rounds": every, "retain_bytes": 1 << 30},
    }
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way, checkpoint in ways.items():
            taken[way].append(_run(f"{folder}/store", f"{folder}/{model}", workers, rounds, checkpoint))

    def median(way: str, figure: str) -> float:
        return statistics.median(each[figure] for each in taken[way])

    def extra(way: str, figure: str) -> float:
        return statistics.median(a[figure] - b[figure] for a, b in zip(taken[way], taken["off"], strict=True))

    count = median("often", "count")
    cost_s = extra("often", "train_s") / count
    return {
        "model": model,
        "rounds": rounds,
        "off_s": median("off", "train_s"),
        "default_ratio": statistics.median(
            a["train_s"] / b["train_s"] for a, b in zip(taken["default"], taken["off"], strict=True)
        ),
        "default_count": median("default", "count"),
        "count": count,
        "bytes_each": median("often", "bytes") / count,
        "cost_s": cost_s,
        "share_every_10_s": cost_s / 10,
        "held_s": median("often", "held_s") / count,
        "cpu_s": extra("often", "cpu_s") / count,
    }


def _run(store: str, data: str, workers: int, rounds: int, checkpoint: dict[str, Any]) -> dict[str, float]:
    """Seconds of training and of processor time, and what was written."""
    job = Job.from_mapping(
        {
            "store": store,
            "data": {"source": data},
            "workers": workers,
            "rounds": rounds,
            "batch_size": 1000,
            "optimizer": {"name": "ga_sgd", "learning_rate": 0.01, "momentum": 0.9},
            "checkpoint": checkpoint,
        }
    )
    before = _cpu_s()
    record = run_job(job)
    seconds, written = record["seconds"], record["checkpoints"]
    return {
        "train_s": sum(seconds[name] for name in ("compute", "communicate", "wait")),
        "cpu_s": _cpu_s() - before,
        "count": written["count"],
        "bytes": written["bytes"],
        "held_s": written["seconds"],
    }


def _cpu_s() -> float:
    """Of all workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _dense(folder: str, features: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 28), np.float32)
    _write(folder, x, x[:, 0] > 0)


def _sparse(folder: str, features: int) -> None:
    rng = np.random.default_rng(0)
    rows, cells = 20_000, 20
    columns = np.sort(rng.integers(0, features, (rows, cells)), axis=1)
    x = csr_matrix(
        (np.ones(rows * cells, np.float32), columns.ravel(), np.arange(0, rows * cells + 1, cells)), (rows, features)
    )
    x.sum_duplicates()
    _write(folder, x, columns[:, 0] > features // 40)


def _write(folder: str, x: Any, y: Any) -> None:
    Path(folder).mkdir()
    store = open_storage(f"file://{folder}")
    write_arrays(x, y, store, shards=2, validation=0)
    store.close()


if __name__ == "__main__":
    main()
