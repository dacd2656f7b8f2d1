"""What a worker does, for benchmarks that time it: alone beside loops written by hand, or among others."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import Optimizer, Worker
from lambdaml_core.storage import open_storage

Array = NDArray[Any]
Loop = Callable[[], tuple[Array, float]]
"""One epoch from the start: the parameters, and the mean of the losses before each step."""


def lone_epoch(data: ShardedData, optimizer: Optimizer) -> Loop:
    """As :func:`epoch_of` a worker that has all rows."""
    return epoch_of(data, optimizer, Engine(open_storage("memory://lone-worker"), rank=0, size=1))


def epoch_of(data: ShardedData, optimizer: Optimizer, comm: Engine) -> Loop:
    """Rounds of logistic regression through the engine, each given what a worker's trainer gives it."""
    model = LogisticRegression(LinearOptions())
    rounds = data.steps_per_epoch // optimizer.steps_per_round(data.steps_per_epoch)
    arrays: dict[str, Array] = {}

    def scratch(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = arrays[name] = np.empty(shape, dtype)
        return array

    def worker(round: int) -> Worker:
        def rng(purpose: str) -> Generator:
            return np.random.default_rng([round, *purpose.encode()])

        return Worker(comm.rank, comm.size, round, rounds, model, data, comm, rng, scratch)

    def epoch() -> tuple[Array, float]:
        state = optimizer.start(worker(0), model.init(data, worker(0).rng("init")))
        losses = [optimizer.round(worker(round), state)["loss"] for round in range(rounds)]
        return state.params, statistics.fmean(losses)

    return epoch
