"""Rounds of sparse logistic regression on 2^20 features, zeros left out of messages and sent as everything else.

``python tests/benchmarks/sparse_rounds.py --storage URL`` trains GA-SGD among workers, epochs of both kinds in turn by
the same processes. Prints one JSON object; for each size of a batch: median seconds of a round of the slowest worker,
``ratio`` (dense / sparse), the seconds of a round without exchange, and bytes that all workers send in a round.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lone_worker import Loop, epoch_of, lone_epoch
from scipy.sparse import csr_matrix

from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.comm import contents
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.run.bench import run_workers
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.layers import Count, Prefix

FEATURES = 1 << 20
ROWS, CELLS = 4000, 100  # cells of a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="default: a fresh directory on tmpfs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--aggregators", type=int, default=2)
    parser.add_argument("--batch-sizes", default="100,1000")
    parser.add_argument("--epochs", type=int, default=5, help="of each kind")
    args = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # for workers
    rows = [_measure(args, batch_size) for batch_size in map(int, args.batch_sizes.split(","))]
    print(json.dumps({"schema": 1, "features": FEATURES, "cells_per_row": CELLS, "sizes": rows}))


def _measure(args: argparse.Namespace, batch_size: int) -> dict[str, Any]:
    name = f"sparse-{secrets.token_hex(6)}"
    job = {
        "storage": args.storage or f"file:///dev/shm/{name}",
        "prefix": name,
        "size": args.workers,
        "aggregators": args.aggregators,
        "batch_size": batch_size,
        "epochs": args.epochs,
    }
    try:
        workers = run_workers("sparse_rounds", job, args.workers)
    finally:
        if args.storage is None:
            shutil.rmtree(f"/dev/shm/{name}", ignore_errors=True)  # noqa: S108
    seconds = {name: max(w["seconds"][name] for w in workers) for name in workers[0]["seconds"]}
    sent = {name: sum(w["sent"][name] for w in workers) for name in ("sparse", "dense")}
    return {
        "batch_size": batch_size,
        **{f"{name}_s": took for name, took in seconds.items()},
        "ratio": seconds["dense"] / seconds["sparse"],
        **{f"{name}_bytes": number for name, number in sent.items()},
    }


def _worker(job: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns = np.exp(rng.random(ROWS * CELLS) * np.log(FEATURES)).astype(np.int64) - 1  # as words: most of them rare
    place = rng.permutation(FEATURES)[columns], np.repeat(np.arange(ROWS), CELLS)
    x = csr_matrix((np.ones(ROWS * CELLS, np.float32), place[::-1]), (ROWS, FEATURES))
    rank, size = job["rank"], job["size"]
    store = open_storage("memory://sparse-rounds")
    manifest = write_arrays(x, rng.random(ROWS) > 0.5, store, shards=1, validation=0)
    data = ShardedData(store, manifest, rank=rank, size=size, batch_size=job["batch_size"])
    channel = Count(Prefix(open_storage(job["storage"]), job["prefix"]))
    engine = Engine(channel, rank=rank, size=size, aggregators=job["aggregators"])
    optimizer = GASGD(GASGDOptions(learning_rate=0.5))
    together, alone = epoch_of(data, optimizer, engine), lone_epoch(data, optimizer)
    looks_sparse: Any = vars(contents)["looks_sparse"]
    seconds: dict[str, list[float]] = {"sparse": [], "dense": [], "alone": []}
    sent = {}
    for turn in range(1 + job["epochs"]):
        for name, epoch in {"sparse": together, "dense": together, "alone": alone}.items():
            vars(contents)["looks_sparse"] = looks_sparse if name == "sparse" else lambda pieces: False
            engine.barrier()
            before = channel.counts.sent
            took = _seconds(epoch) / data.steps_per_epoch
            sent[name] = (channel.counts.sent - before) // data.steps_per_epoch
            if turn:  # the first one warms up
                seconds[name].append(took)
    engine.barrier()
    engine.close()
    return {"seconds": {name: statistics.median(times) for name, times in seconds.items()}, "sent": sent}


def _seconds(epoch: Loop) -> float:
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(_worker(json.loads(sys.argv[1]))))
    else:
        main()
