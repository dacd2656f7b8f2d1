"""What it costs a round that rank 0's decisions ride in its message: ``python tests/benchmarks/control.py``.

Rounds of GA-SGD on a small model, through the trainer and the engine: with a keeper that is asked after every round and
never wants a checkpoint, and without one. Both are run in turn, by one worker and by several threads that share a
channel in memory. Prints one JSON object: microseconds of a round are medians of runs, and ``ratio`` is the median of
with / without of runs that follow each other.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import json
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lambdaml_core.builtin import GASGDOptions, LinearOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.run.records.checkpoints import Checkpoint
from lambdaml_core.run.spec import Stop
from lambdaml_core.run.worker.training import Trainer
from lambdaml_core.storage import open_storage


class Idle:
    """Keeps nothing."""

    restored = None
    saves = True

    def begin(self, checkpoint: Checkpoint) -> None: ...

    def due(self, round: int) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None: ...

    def boundary(self, capture: Callable[[], Checkpoint]) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--features", type=int, default=28)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--runs", type=int, default=21)
    args = parser.parse_args()
    store = open_storage("memory://control")
    x = np.random.default_rng(0).standard_normal((20_000, args.features), np.float32)
    manifest = write_arrays(x, x[:, 0] > 0, store, shards=1, validation=0)
    rows = []
    for size in map(int, args.workers.split(",")):
        ranks = [ShardedData(store, manifest, rank=rank, size=size, batch_size=args.batch_size) for rank in range(size)]
        pairs = [tuple(_seconds(ranks, keeper, args.rounds) for keeper in (Idle(), None)) for _ in range(args.runs + 1)]
        controlled, plain = zip(*pairs[1:], strict=True)
        rows.append(
            {
                "workers": size,
                "features": args.features,
                "batch_size": args.batch_size,
                "controlled_us": 1e6 / args.rounds * statistics.median(controlled),
                "plain_us": 1e6 / args.rounds * statistics.median(plain),
                "ratio": statistics.median(a / b for a, b in zip(controlled, plain, strict=True)),
            }
        )
    print(json.dumps({"schema": 1, "rows": rows}))


def _seconds(ranks: Sequence[ShardedData], keeper: Idle | None, rounds: int) -> float:
    """One run of all ranks."""
    url = f"memory://control-{uuid.uuid4()}"

    def work(rank: int) -> None:
        Trainer(
            model=LogisticRegression(LinearOptions()),
            optimizer=GASGD(GASGDOptions(momentum=0.9)),
            data=ranks[rank],
            validation=None,
            comm=Engine(open_storage(url), rank=rank, size=len(ranks)),
            seed=0,
            evaluate=rounds,
            stop=Stop(),
            on_round=lambda progress: None,
            keeper=keeper,
        ).run(rounds)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(ranks)) as pool:
        list(pool.map(work, range(len(ranks))))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
