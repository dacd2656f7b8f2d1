"""The rounds of one worker: from the optimizer's start to the last figures."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.data.base import Data
from lambdaml_core.errors import RunError
from lambdaml_core.models.base import Model, total_score
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.run.records.checkpoints import Checkpoint
from lambdaml_core.run.spec import Stop
from lambdaml_core.run.worker.control import ControlledCommunicator, Decision, NumberedCommunicator
from lambdaml_core.run.worker.stopping import LossWatch

_MOST_EVALUATIONS = 200  # of a run: with few rows an epoch is a round or two, and a look costs more than that


class Progress(NamedTuple):
    """Where a run stands after a round.

    Attributes:
        round: rounds done.
        loss: mean training loss of the last round, as the optimizer says it.
        seconds: since the run's first round began, by this worker's clock.
        figures: the model's figures on the validation rows, if they were looked at after this round.
        round_figures: what else the optimizer says of the round, such as residuals.
    """

    round: int
    loss: float
    seconds: float
    figures: Mapping[str, float] | None
    round_figures: Mapping[str, float]


class Outcome(NamedTuple):
    """How training ended.

    Attributes:
        params: the trained parameters.
        rounds: rounds done.
        stop_reason: ``rounds``: all that were asked for; ``loss``, ``no improvement`` or ``seconds``: what
            :class:`~lambdaml_core.run.spec.Stop` says; ``converged``: the optimizer said so.
        figures: of the validation rows; empty where there are none.
        train_loss: mean loss of all training rows, without penalty.
        round_figures: what the optimizer has said of the last round, but for its loss.
    """

    params: NDArray[Any]
    rounds: int
    stop_reason: str
    figures: Mapping[str, float]
    train_loss: float
    round_figures: Mapping[str, float]


class Keeper(Protocol):
    """Who keeps checkpoints of a worker, and says whether it goes on."""

    @property
    def restored(self) -> Checkpoint | None:
        """Where this attempt starts; its arrays become those of the training. None = the beginning."""

    @property
    def saves(self) -> bool:
        """Whether a checkpoint may ever be due; equal on all ranks."""

    def begin(self, checkpoint: Checkpoint) -> None:
        """The first round of this attempt begins, from here. May refuse what could not be saved after it."""

    def due(self, round: int) -> bool:
        """Whether a checkpoint is to be written once ``round`` rounds are done. Asked on rank 0, at most once a round;
        a replay that finds the round's result goes by that."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it: called on all ranks at the same rounds, but not after the last. Its arrays will change: they are to
        be copied before this returns."""

    def boundary(self, capture: Callable[[], Checkpoint]) -> None:
        """A round that is not the last is done, told and, if it was due, saved. May raise to leave; ``capture`` gives
        the checkpoint of this moment, whose arrays will change."""


@dataclass
class _Course:
    """What a round finds and leaves: all that a checkpoint has to hold."""

    state: State
    done: int
    losses: list[float]  # of the rounds since the last look
    watch: LossWatch

    def checkpoint(self, sequence: int) -> Checkpoint:
        memory = {"losses": np.array(self.losses, np.float64), "watch": np.array(self.watch.memory)}
        return Checkpoint(self.done, sequence, self.state, memory)


class Trainer:
    """One worker's share of a run.

    Args:
        validation: this rank's validation rows, or None where the partition has none.
        initial: parameters to start from, equal on all ranks; None = those that the model starts from.
        evaluate: rounds from one look at the validation rows to the next.
        stop: what may end the run before its last round.
        on_round: called after each round, on every rank; an exception of it ends the worker.
        keeper: keeps checkpoints; on all ranks or on none.
        elapsed_s: seconds from when the run's first round began, in another attempt, to when this one goes on.
        now: a clock in seconds. It ends a run where ``stop`` says so, and else touches no number.
    """

    def __init__(
        self,
        *,
        model: Model,
        optimizer: Optimizer,
        data: Data,
        validation: Data | None,
        comm: NumberedCommunicator,
        seed: int,
        evaluate: int,
        on_round: Callable[[Progress], None],
        stop: Stop,
        initial: NDArray[Any] | None = None,
        keeper: Keeper | None = None,
        elapsed_s: float = 0.0,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._data, self._validation = data, validation
        self._seed, self._on_round, self._keeper = seed, on_round, keeper
        self._initial, self._evaluate, self._stop, self._now = initial, evaluate, stop, now
        self._elapsed_s, self._began = elapsed_s, math.nan
        decides = (keeper is not None and keeper.saves) or stop.seconds is not None
        self._comm = ControlledCommunicator(comm, self._decide if decides else None)
        self._scratch: dict[str, NDArray[Any]] = {}

    def run(self, rounds: int) -> Outcome:
        """Train for so many rounds, or until something stops the run; all ranks stop at the same round.

        Raises:
            RunError: training diverged; on all ranks alike.
        """
        course = self._course(rounds)
        figures: Mapping[str, float] = {}
        told: Mapping[str, float] = {}
        reason = ""
        self._began = self._now() - self._elapsed_s

        def capture() -> Checkpoint:
            return course.checkpoint(self._comm.sequence)

        if self._keeper is not None:
            self._keeper.begin(capture())
        while not reason:
            self._comm.begin(course.done + 1)
            result = self._optimizer.round(self._worker(course.done, rounds), course.state)
            decision = self._comm.end()
            course.done += 1
            done, loss, seconds = course.done, result.get("loss", math.nan), self._seconds()
            course.losses.append(loss)
            told = {name: value for name, value in result.items() if name not in ("loss", "stop")}
            if result.get("stop", 0.0) > 0:
                reason = "converged"
            elif decision.time_up:
                reason = "seconds"
            looked = bool(reason) or done == rounds or done % self._evaluate == 0
            if looked:
                figures = self._figures(self._validation, course.state)
                reason = reason or course.watch.reason(figures["loss"] if figures else _mean(course.losses))
                course.losses.clear()
            if done == rounds:
                reason = reason or "rounds"
            self._on_round(Progress(done, loss, seconds, figures if looked else None, told))
            if self._keeper is not None and not reason:
                if decision.checkpoint:
                    self._keeper.save(capture())
                self._keeper.boundary(capture)
        train_loss = self._train_loss(course.state, course.done)
        return Outcome(course.state.params, course.done, reason, figures, train_loss, told)

    def _course(self, rounds: int) -> _Course:
        """Where this attempt begins: at a checkpoint, or before the first round."""
        restored = None if self._keeper is None else self._keeper.restored
        if restored is None:
            return _Course(self._start(rounds), 0, [], LossWatch(self._stop))
        losses, watch = (restored.trainer[name].tolist() for name in ("losses", "watch"))
        return _Course(restored.state, restored.round, losses, LossWatch(self._stop, *watch))

    def _seconds(self) -> float:
        return self._now() - self._began

    def _decide(self, round: int) -> Decision:
        """What this rank, if it is rank 0, has all ranks do after this round."""
        time_up = self._stop.seconds is not None and self._seconds() >= self._stop.seconds
        return Decision(time_up, self._keeper is not None and self._keeper.due(round))

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

        given = self._initial is not None
        return Worker(comm.rank, comm.size, round, rounds, self._model, self._data, comm, rng, self._array, given=given)

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
