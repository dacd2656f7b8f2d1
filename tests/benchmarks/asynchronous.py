"""What it is worth not to wait for a slow worker: ``python tests/benchmarks/asynchronous.py``.

Four workers train logistic regression, one of them slowed several times: together, asynchronously, and asynchronously
with bounded staleness. As many updates are planned for each, with the same step sizes. Workers are threads that
exchange through files, and their speed is what they sleep in each mini-batch, so that the machine's cores hardly
matter. Prints one JSON object: ``updates_per_s`` of all workers and ``speedup`` beside those that work together;
``loss`` over all training rows at the end and ``excess``, the share by which it is above theirs; and the staleness.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.exchange import SlotExchange
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
from lambdaml_core.run.spec import Stop
from lambdaml_core.run.worker.asynchronous import AsynchronousTrainer, ControlledExchange, is_asynchronous
from lambdaml_core.run.worker.timing import Clock
from lambdaml_core.run.worker.training import Outcome, Trainer
from lambdaml_core.storage import open_storage

SIZE = 4
MODES: dict[str, dict[str, Any]] = {
    "together": {},
    "asynchronous": {"asynchronous": True},
    "staleness_4": {"asynchronous": True, "staleness": 4},
}


class Slowed:
    """Rows of which each mini-batch takes a while."""

    def __init__(self, inner: Data, batch_s: float) -> None:
        self.rows, self.features, self.classes = inner.rows, inner.features, inner.classes
        self.steps_per_epoch = inner.steps_per_epoch
        self._inner, self._batch_s = inner, batch_s

    def batch(self, step: int) -> Batch:
        time.sleep(self._batch_s)
        return self._inner.batch(step)

    def blocks(self) -> Iterator[Batch]:
        return self._inner.blocks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--features", type=int, default=28)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=400, help="mini-batches of all workers")
    parser.add_argument("--local-steps", type=int, default=5, help="of model averaging, between exchanges")
    parser.add_argument("--batch-s", type=float, default=0.004)
    parser.add_argument("--slow", type=float, default=5.0, help="times that the last worker is slowed")
    args = parser.parse_args()
    ranks = _rows(args)
    results: dict[str, Any] = {"schema": 1, **vars(args)}
    for name, rounds in (("ga_sgd", args.steps), ("ma_sgd", args.steps // args.local_steps)):
        told = {mode: _measure(ranks, _optimizer(name, values, args), rounds) for mode, values in MODES.items()}
        for each in told.values():
            each["speedup"] = each["updates_per_s"] / told["together"]["updates_per_s"]
            each["excess"] = each["loss"] / told["together"]["loss"] - 1
        results[name] = told
    print(json.dumps(results, indent=1))


def _optimizer(name: str, values: dict[str, Any], args: argparse.Namespace) -> Optimizer:
    if name == "ga_sgd":
        return GASGD(GASGDOptions(learning_rate=0.3, schedule="constant", **values))
    return MASGD(MASGDOptions(learning_rate=0.1, schedule="constant", local_steps=args.local_steps, **values))


def _rows(args: argparse.Namespace) -> Sequence[Data]:
    """Of each worker: two classes that overlap."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.rows, args.features), np.float32)
    y = x @ rng.standard_normal(args.features) + 3 * rng.standard_normal(args.rows) > 0
    store = open_storage("memory://asynchronous")
    manifest = write_arrays(x, y, store, shards=1, validation=0)
    seconds = [args.batch_s] * (SIZE - 1) + [args.batch_s * args.slow]
    return [
        Slowed(ShardedData(store, manifest, rank=rank, size=SIZE, batch_size=args.batch_size), batch_s)
        for rank, batch_s in enumerate(seconds)
    ]


def _measure(ranks: Sequence[Data], optimizer: Optimizer, rounds: int) -> dict[str, float]:
    """All workers, from their start to their end."""
    memory = Path("/dev/shm")  # noqa: S108  (a directory of its own is made in it)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        began = time.perf_counter()
        with ThreadPoolExecutor(SIZE) as pool:
            works = [pool.submit(_train, f"file://{folder}", ranks, rank, optimizer, rounds) for rank in range(SIZE)]
            outcomes = [work.result() for work in works]
        seconds = time.perf_counter() - began
    assert all(np.array_equal(outcome.params, outcomes[0].params) for outcome in outcomes)
    figures = outcomes[0].round_figures
    updates = figures.get("updates", float(rounds * SIZE))
    return {
        "updates": updates,
        "seconds": seconds,
        "updates_per_s": updates / seconds,
        "loss": outcomes[0].train_loss,
        "staleness": figures.get("staleness", 0.0),
        "staleness_max": figures.get("staleness_max", 0.0),
    }


def _train(url: str, ranks: Sequence[Data], rank: int, optimizer: Optimizer, rounds: int) -> Outcome:
    channel = open_storage(url)
    parts: dict[str, Any] = {
        "model": LogisticRegression(LinearOptions()),
        "optimizer": optimizer,
        "data": ranks[rank],
        "validation": None,
        "comm": Engine(channel, rank=rank, size=SIZE),
        "seed": 0,
        "evaluate": rounds,
        "stop": Stop(),
        "on_round": lambda progress: None,
    }
    if not is_asynchronous(SIZE, optimizer):
        return Trainer(**parts).run(rounds)
    exchange = ControlledExchange(
        SlotExchange(channel, rank=rank, size=SIZE),
        updates=rounds * SIZE,
        least=0,
        kept=lambda: None,
        clock=Clock(time.perf_counter()),
    )
    return AsynchronousTrainer(exchange=exchange, boundary=lambda: None, **parts).run(rounds)


if __name__ == "__main__":
    main()
