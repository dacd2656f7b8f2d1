"""The rounds of one worker: from the optimizer's start to the last figures."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.comm.base import Communicator
from lambdaml_core.data.base import Data
from lambdaml_core.errors import RunError
from lambdaml_core.models.base import Model, total_score
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.run.spec import Stop
from lambdaml_core.run.stopping import LossWatch, TimeWatch

_MOST_EVALUATIONS = 200  # of a run: with few rows an epoch is a round or two, and a look costs more than that


class Progress(NamedTuple):
    """Where a run stands after a round.

    Attributes:
        round: rounds done.
        loss: mean training loss of the last round, as the optimizer says it.
        seconds: since the first round began, by this worker's clock.
        figures: the model's figures on the validation rows, if they were looked at after this round.
    """

    round: int
    loss: float
    seconds: float
    figures: Mapping[str, float] | None


class Outcome(NamedTuple):
    """How training ended.

    Attributes:
        params: the trained parameters.
        rounds: rounds done.
        stop_reason: ``rounds``: all that were asked for; ``loss``, ``no improvement`` or ``seconds``: what
            :class:`~lambdaml_core.run.stopping.Stop` says; ``converged``: the optimizer said so.
        figures: of the validation rows; empty where there are none.
        train_loss: mean loss of all training rows, without penalty.
    """

    params: NDArray[Any]
    rounds: int
    stop_reason: str
    figures: Mapping[str, float]
    train_loss: float


class Trainer:
    """One worker's share of a run.

    Args:
        validation: this rank's validation rows, or None where the partition has none.
        initial: parameters to start from, equal on all ranks; None = those that the model starts from.
        evaluate: rounds from one look at the validation rows to the next.
        stop: what may end the run before its last round.
        on_round: called after each round, on every rank; an exception of it ends the worker.
        now: a clock in seconds. It ends a run where ``stop`` says so, and else touches no number.
    """

    def __init__(
        self,
        *,
        model: Model,
        optimizer: Optimizer,
        data: Data,
        validation: Data | None,
        comm: Communicator,
        seed: int,
        evaluate: int,
        on_round: Callable[[Progress], None],
        stop: Stop,
        initial: NDArray[Any] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._data, self._validation = data, validation
        self._comm, self._seed, self._on_round = comm, seed, on_round
        self._initial, self._evaluate, self._stop, self._now = initial, evaluate, stop, now
        self._scratch: dict[str, NDArray[Any]] = {}

    def run(self, rounds: int) -> Outcome:
        """Train for so many rounds, or until something stops the run; all ranks stop at the same round.

        Raises:
            RunError: training diverged; on all ranks alike.
        """
        state = self._start(rounds)
        loss_watch, time_watch = LossWatch(self._stop), TimeWatch(self._stop.seconds, self._comm)
        losses: list[float] = []  # of the rounds since the last look
        figures: Mapping[str, float] = {}
        done, reason = 0, ""
        began = self._now()
        while not reason:
            result = self._optimizer.round(self._worker(done, rounds), state)
            done += 1
            loss, seconds = result.get("loss", math.nan), self._now() - began
            losses.append(loss)
            if result.get("stop", 0.0) > 0:
                reason = "converged"
            elif time_watch.is_up(done, seconds):
                reason = "seconds"
            looked = bool(reason) or done == rounds or done % self._evaluate == 0
            if looked:
                figures = self._figures(self._validation, state)
                reason = reason or loss_watch.reason(figures["loss"] if figures else _mean(losses))
                losses.clear()
            if done == rounds:
                reason = reason or "rounds"
            self._on_round(Progress(done, loss, seconds, figures if looked else None))
        return Outcome(state.params, done, reason, figures, self._train_loss(state, done))

    def _start(self, rounds: int) -> State:
        """The state before the first round, from parameters that are those of rank 0."""
        first = self._worker(0, rounds)
        start = self._model.init(self._data, first.rng("init")) if self._initial is None else self._initial
        params = aligned_empty(start.shape, start.dtype)
        params[...] = start
        self._comm.broadcast({"params": params})
        return self._optimizer.start(first, params)

    def _worker(self, round: int, rounds: int) -> Worker:
        comm = self._comm

        def rng(purpose: str) -> Generator:
            return keyed_generator(self._seed, comm.rank, round, purpose)

        return Worker(comm.rank, comm.size, round, rounds, self._model, self._data, comm, rng, self._array)

    def _figures(self, data: Data | None, state: State) -> Mapping[str, float]:
        """The model's figures on the rows of all ranks; nothing where there are no rows to look at."""
        if data is None:
            return {}
        totals = total_score(self._model, state.params, data.blocks())
        if not totals:  # no rows here, and the others need totals of this shape
            totals = total_score(self._model, state.params, [data.batch(0)])
        self._comm.all_reduce(totals)
        return self._model.metrics(totals)

    def _train_loss(self, state: State, done: int) -> float:
        """Of all rows, after the last step, which no round looks at; NaN for a model that knows no loss."""
        figures = self._figures(self._data, state)
        if not np.isfinite(state.params).all() or not math.isfinite(figures.get("loss", 0.0)):
            raise RunError(
                f"training diverged: the model after its last round, {done}, has no finite loss",
                hint="lower optimizer.learning_rate, or scale the features",
            )
        return figures.get("loss", math.nan)

    def _array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array = self._scratch.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._scratch[name] = aligned_empty(shape, dtype)
        return array


def evaluation_period(rounds: int, rounds_per_epoch: int) -> int:
    """Rounds from one look at the validation rows to the next: an epoch, or several where a run has very many."""
    return rounds_per_epoch * max(1, math.ceil(rounds / rounds_per_epoch / _MOST_EVALUATIONS))


def keyed_generator(seed: int, rank: int, round: int, purpose: str) -> Generator:
    """Random numbers that are a function of these four, so that a replay draws the same ones."""
    key = (rank, round, zlib.crc32(purpose.encode()))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _mean(losses: list[float]) -> float:
    """Of those rounds that had rows; NaN where none had."""
    known = [loss for loss in losses if not math.isnan(loss)]
    return math.fsum(known) / len(known) if known else math.nan
