"""One worker's dense epoch beside the same mini-batch loop in plain numpy: ``python tests/benchmarks/dense_epoch.py``.

Ours is what a lone worker does on a shard, through the engine: rounds of GA-SGD, each a mini-batch, or one round of
MA-SGD, an epoch of its own steps. They are held against two loops as a numpy expert would write them, in float32: one
that gives what ours give (the steps and the mean loss before each), and one that takes the steps alone. All see the
same memory in turn, on one BLAS thread, and end with the same bytes. Prints one JSON object: times are medians of
epochs, and ratios of the two that follow each other; a ``ratio`` is ours / the same in plain numpy, a
``ratio_without_loss`` ours / the steps alone.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from lone_worker import Array, lone_epoch

from lambdaml_core.builtin import GASGDOptions, MASGDOptions
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
from lambdaml_core.storage import open_storage

LEARNING_RATE, MOMENTUM = 0.1, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=900_000)
    parser.add_argument("--features", type=int, default=28)
    parser.add_argument("--batch-sizes", default="10000,1000")
    parser.add_argument("--epochs", type=int, default=41)
    args = parser.parse_args()
    store = open_storage("memory://dense-epoch")
    x, y = _problem(args.rows, args.features)
    manifest = write_arrays(x, y, store, shards=1, validation=0)
    rows = []
    for batch_size in map(int, args.batch_sizes.split(",")):
        data = ShardedData(store, manifest, rank=0, size=1, batch_size=batch_size)
        times = _times(data, args.epochs)
        rows.append({"rows": args.rows, "features": args.features, "batch_size": batch_size, **times})
    print(json.dumps({"schema": 1, "rows": rows}))


def _problem(rows: int, features: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features), np.float32)
    return x, x @ rng.standard_normal(features, np.float32) + rng.standard_normal(rows, np.float32) > 0


def _times(data: ShardedData, epochs: int) -> dict[str, float]:
    batches = [data.batch(t) for t in range(data.steps_per_epoch)]
    ga = lone_epoch(data, GASGD(GASGDOptions(learning_rate=LEARNING_RATE, momentum=MOMENTUM)))
    ma = lone_epoch(data, MASGD(MASGDOptions(learning_rate=LEARNING_RATE, momentum=MOMENTUM)))
    loops: dict[str, Callable[[], Array]] = {
        "ga_s": lambda: ga()[0],
        "ma_s": lambda: ma()[0],
        "plain_s": lambda: plain(batches),
        "plain_without_loss_s": lambda: plain_without_loss(batches),
    }
    results = [loop() for loop in loops.values()]  # warms up, and shows that they do the same
    if any(result.tobytes() != results[0].tobytes() for result in results):
        raise SystemExit("the loops do not agree")
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(epochs):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop()
            seconds[name].append(time.perf_counter() - started)
    result = {name: statistics.median(values) for name, values in seconds.items()}
    for kind in ("ga", "ma"):
        for name, ratio in (("plain_s", "ratio"), ("plain_without_loss_s", "ratio_without_loss")):
            pairs = zip(seconds[f"{kind}_s"], seconds[name], strict=True)
            result[f"{kind}_{ratio}"] = statistics.median(a / b for a, b in pairs)
    return result


def plain(batches: Sequence[Batch]) -> Array:
    """Steps and losses; the loss reuses exp(-margin), which is quicker than logaddexp or two logarithms."""
    w, b, dw, db = _zeros(batches[0].x.shape[1])
    rate, keep = np.float32(LEARNING_RATE), np.float32(MOMENTUM)
    losses = []
    for x, y, rows, _ in batches:
        n = np.float32(rows)
        margin = x @ w + b
        inverse = 1 + np.exp(-margin)
        losses.append((np.log(inverse).sum() + margin.sum() - y @ margin) / n)
        residual = 1 / inverse - y
        dw = keep * dw - rate * (x.T @ residual / n)
        db = keep * db - rate * (residual.sum() / n)
        w += dw
        b += db
    return np.append(w, b)


def plain_without_loss(batches: Sequence[Batch]) -> Array:
    """Steps alone."""
    w, b, dw, db = _zeros(batches[0].x.shape[1])
    rate, keep = np.float32(LEARNING_RATE), np.float32(MOMENTUM)
    for x, y, rows, _ in batches:
        n = np.float32(rows)
        residual = 1 / (1 + np.exp(-(x @ w + b))) - y
        dw = keep * dw - rate * (x.T @ residual / n)
        db = keep * db - rate * (residual.sum() / n)
        w += dw
        b += db
    return np.append(w, b)


def _zeros(features: int) -> tuple[Array, np.float32, Array, np.float32]:
    return np.zeros(features, np.float32), np.float32(0), np.zeros(features, np.float32), np.float32(0)


if __name__ == "__main__":
    main()
