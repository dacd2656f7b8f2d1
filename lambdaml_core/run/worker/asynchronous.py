"""Asynchronous rounds of one worker: no collective between the start of a run and its end.

A *clock* is a round of one rank, an update of the parameters; a *round* of the run is as many updates as there are
ranks, whoever makes them. A rank ends once it knows of all updates that were planned, so that quick ones do what slow
ones do not. Rank 0 alone looks at the loss, by its own rows, and what it decides lies in its slot.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.exchange import FOREVER, SlotExchange
from lambdaml_core.comm.slots import durable
from lambdaml_core.errors import ResultLost, RunError
from lambdaml_core.models.base import total_score
from lambdaml_core.optim.asynchronous import SupportsExchange, clocks_behind
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.slots import kept_key
from lambdaml_core.run.spec import Checkpointing
from lambdaml_core.run.worker.leaving import TimeUp
from lambdaml_core.run.worker.reporter import Reporter
from lambdaml_core.run.worker.stopping import LossWatch
from lambdaml_core.run.worker.succession import TimeLimit
from lambdaml_core.run.worker.timing import Clock
from lambdaml_core.run.worker.training import Outcome, Progress, Trainer
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage, size_of

_STOP, _STALENESS = "(stop)", "(staleness)"
"""Arrays in a slot beside those of the optimizer. Of rank 0: why the run ends, and what it remembers of the loss. Of
each rank: the sum of its stalenesses, their number, and the largest."""

_T = TypeVar("_T")
_REASONS = ("", "loss", "no improvement", "seconds", "converged")


def is_asynchronous(workers: int, optimizer: Any) -> bool:
    """Whether rounds of so many workers are; one alone has nobody to wait for."""
    return workers > 1 and isinstance(optimizer, SupportsExchange) and optimizer.asynchronous


class ControlledExchange:
    """An exchange that also carries what ends a run, and measures staleness.

    Args:
        updates: planned, of all ranks together.
        least: the clock that an earlier process of this rank has said it had come to.
        kept: the slot that this rank has kept of an earlier generation, if there is one.
        clock: told how long it took.
    """

    def __init__(
        self, inner: SlotExchange, *, updates: int, least: int, kept: Callable[[], Buffer | None], clock: Clock
    ) -> None:
        self.rank, self.size = inner.rank, inner.size
        self.memory = np.array([0.0, math.inf, 0.0, 0.0, 0.0])  # rank 0's: reason, LossWatch.memory, losses, how many
        self._inner, self._updates, self._least, self._kept, self._clock = inner, updates, least, kept, clock
        self._staleness = np.zeros(3)
        self._reason = 0  # as rank 0 says it
        self._published = False
        if self.rank:
            self.memory[:] = 0

    @property
    def clock(self) -> int:
        """How many updates this rank has published."""
        return self._inner.own.clock

    @property
    def updates(self) -> int:
        """How many updates of all ranks are known."""
        return sum(self._inner.clocks)

    @property
    def finished(self) -> Collection[int]:
        """As :attr:`Exchange.finished`."""
        return self._inner.finished

    @property
    def ended(self) -> bool:
        """Whether all have published their last."""
        return len(self.finished) == self.size

    @property
    def reason(self) -> str:
        """Why rank 0 ends the run; empty where it does not."""
        return _REASONS[self._reason]

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for others."""
        return self._inner.waited_s

    def totals(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Staleness of this rank: its sum and how many there are; and the largest."""
        return self._staleness[:2].copy(), self._staleness[2:].copy()

    def stop(self, reason: str) -> None:
        """On rank 0: the next update is the last one."""
        self.memory[0] = _REASONS.index(reason)

    def resume(self, x: Arrays) -> int:
        """As :meth:`Exchange.resume`; goes on with what an earlier generation has kept, if this one has nothing.

        Raises:
            ResultLost: the channel has lost what this rank had published.
        """
        mine = self._with(x, self.memory, self._staleness)
        clock = self._timed(lambda: self._inner.resume(mine))
        kept = self._kept() if clock == 0 else None
        if kept is not None:
            clock = self._timed(functools.partial(self._inner.begin, mine, kept))
        if clock < self._least:
            raise ResultLost(
                f"the slot of rank {self.rank} is of clock {clock}, and it had come to {self._least}",
                hint="the channel has lost it; give it more memory",
            )
        return clock

    def publish(self, x: Arrays, *, clock: int, last: bool = False) -> None:
        """As :meth:`Exchange.publish`. It is the last one if rank 0 has said so, or none is left to do."""
        known = self.updates - self.clock + clock
        last = last or bool(self._reason or self.memory[0]) or known >= self._updates
        mine = self._with(x, self.memory, self._staleness)
        self._timed(lambda: self._inner.publish(mine, clock=clock, last=last))
        self._published = True

    def merge(self, x: Arrays, *, min_clock: int) -> Sequence[int]:
        """As :meth:`Exchange.merge`. Who has published its last waits for all."""
        memory, staleness = np.zeros_like(self.memory), np.zeros_like(self._staleness)
        last = self._inner.own.last
        everything = self._with(x, memory, staleness)
        clocks = self._timed(lambda: self._inner.merge(everything, min_clock=FOREVER if last else min_clock))
        self._reason = int(memory[0])
        if self._published and not last:
            behind = clocks_behind(self, self.rank, clocks)
            self._staleness[:2] += sum(behind) / len(behind), 1
            self._staleness[2] = max(self._staleness[2], *behind)
        self._published = False
        return clocks

    def _with(self, x: Arrays, memory: NDArray[Any], staleness: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {**x, _STOP: memory, _STALENESS: staleness}

    def _timed(self, do: Callable[[], _T]) -> _T:
        begin, waited = time.perf_counter(), self.waited_s
        try:
            return do()
        finally:
            waited = self.waited_s - waited
            self._clock.seconds["wait"] += waited
            self._clock.seconds["communicate"] += time.perf_counter() - begin - waited


class SlotKeeper:
    """Between two rounds of a rank, whose update is published: keeps the slot for another generation, where the channel
    will be gone, and leaves when the time is up: a successor finds the slot itself.

    Slots of ranks need not be of one moment: whatever there is of each, together they are a state of the run.

    Args:
        store: prefixed by the run.
        engine: for the collectives at both ends of the run, which a replacement goes through again.
        reporter: rank 0's.
        on_clock: told this rank's clock at each boundary, before anything else is done.

    Attributes:
        count, bytes, seconds: as of :class:`~lambdaml_core.run.worker.saver.Saver`.
    """

    def __init__(
        self,
        store: FullStorage,
        ref: WorkerRef,
        policy: Checkpointing,
        exchange: SlotExchange,
        engine: Engine,
        limit: TimeLimit,
        reporter: Reporter | None,
        *,
        on_clock: Callable[[int], None],
    ) -> None:
        self.count, self.bytes, self.seconds = 0, 0, 0.0
        self._store, self._ref, self._policy, self._exchange = store, ref, policy, exchange
        self._engine, self._limit, self._reporter, self._on_clock = engine, limit, reporter, on_clock
        self._clock, self._at_s = 0, time.monotonic()
        if policy.enabled:
            engine.frontier = 0

    def kept(self) -> Buffer | None:
        """The newest slot of this rank that an earlier generation has kept."""
        keys = [kept_key(generation, self._ref.rank) for generation in reversed(range(self._ref.generation))]
        found = self._store.get_many(keys)
        return next((found[key] for key in keys if key in found), None)

    def boundary(self) -> None:
        """Raises TimeUp where the time is up."""
        policy, clock = self._policy, self._exchange.own.clock
        self._on_clock(clock)
        rounds, seconds = clock - self._clock, time.monotonic() - self._at_s
        due = (policy.rounds and rounds >= policy.rounds) or (policy.seconds and seconds >= policy.seconds)
        if policy.enabled and due:
            self._keep(clock)
        if self._limit.leaves_no_round(self._engine.waited_s + self._exchange.waited_s):
            if self._reporter is not None:
                self._reporter.flush()
            raise TimeUp("boundary")

    def _keep(self, clock: int) -> None:
        self._clock, self._at_s = clock, time.monotonic()
        parts = durable(self._exchange.own)
        self._store.put(kept_key(self._ref.generation, self._ref.rank), parts)
        self.count, self.bytes = self.count + 1, self.bytes + size_of(parts)
        self.seconds += time.monotonic() - self._at_s


class AsynchronousTrainer(Trainer):
    """One worker's share of an asynchronous run. A process that takes over goes on from its rank's slot.

    Args:
        exchange: of this rank.
        on_round: told of each round of the run, on rank 0.
        boundary: called after each of this rank's rounds but the last.
        parts: as of :class:`~lambdaml_core.run.worker.training.Trainer`, but for ``keeper``.
    """

    def __init__(self, *, exchange: ControlledExchange, boundary: Callable[[], None], **parts: Any) -> None:
        super().__init__(**parts)
        self._exchange, self._boundary = exchange, boundary
        self._told = 0

    def run(self, rounds: int) -> Outcome:
        """Train until all ranks together have made the updates of so many rounds, or rank 0 ends the run.

        Raises:
            RunError: training diverged; or the optimizer has not published in a round.
        """
        exchange = self._exchange
        state = self._start(rounds)
        _, *memory = exchange.memory[:3].tolist()
        watch = LossWatch(self._stop, *memory)
        self._began = self._now() - self._elapsed_s
        while not exchange.ended:
            clock = exchange.clock
            result = self._optimizer.round(self._worker(clock, rounds), state)
            if exchange.clock != clock + 1:
                raise RunError("the optimizer is asynchronous, and has not published what its round came to")
            if self._comm.rank == 0 and not exchange.ended:
                self._look(result, state, rounds, watch)
            if not exchange.ended:
                self._boundary()
        figures = self._figures(self._validation, state)
        done = exchange.updates // self._comm.size
        told = self._staleness() | {"updates": float(exchange.updates)}
        loss = self._train_loss(state, done)
        if self._comm.rank == 0:
            self._tell(done, loss, figures, told)
        return Outcome(state.params, done, exchange.reason or "rounds", figures, loss, told)

    def _worker(self, round: int, rounds: int) -> Worker:
        return super()._worker(round, rounds)._replace(exchange=self._exchange)

    def _look(self, result: Mapping[str, float], state: State, rounds: int, watch: LossWatch) -> None:
        """What rank 0 tells and decides after a round of its own."""
        exchange, memory = self._exchange, self._exchange.memory
        loss = result.get("loss", math.nan)
        if not math.isnan(loss):
            memory[3:] += loss, 1
        done = min(exchange.updates // self._comm.size, rounds - 1)  # the last one is told at the end
        reason = "converged" if result.get("stop", 0.0) > 0 else ""
        if self._stop.seconds is not None and self._seconds() >= self._stop.seconds:
            reason = reason or "seconds"
        figures: Mapping[str, float] | None = None
        if done // self._evaluate > self._told // self._evaluate:
            figures = self._own_figures(state)
            mean = float(memory[3] / memory[4]) if memory[4] else math.nan
            reason = reason or watch.reason(figures["loss"] if figures else mean)
            memory[1:] = *watch.memory, 0.0, 0.0
        if reason:
            exchange.stop(reason)
        told = {name: value for name, value in result.items() if name not in ("loss", "stop")}
        self._tell(done, loss, figures, told)

    def _tell(self, done: int, loss: float, figures: Mapping[str, float] | None, told: Mapping[str, float]) -> None:
        """All rounds up to this one, of which others have made the updates while this rank made one."""
        seconds = self._seconds()
        for round in range(self._told + 1, done):
            self._on_round(Progress(round, loss, seconds, None, told))
        if done > self._told or figures is not None:
            self._on_round(Progress(done, loss, seconds, figures, told))
        self._told = max(self._told, done)

    def _own_figures(self, state: State) -> Mapping[str, float]:
        """On this rank's validation rows."""
        if self._validation is None or self._validation.rows == 0:
            return {}
        return self._model.metrics(total_score(self._model, state.params, self._validation.blocks()))

    def _staleness(self) -> dict[str, float]:
        """Of all merges of all ranks: how many clocks others were behind, on average and at most."""
        totals, largest = self._exchange.totals()
        self._comm.all_reduce({"totals": totals, "largest": largest}, {"largest": "max"})
        mean = float(totals[0] / totals[1]) if totals[1] else 0.0
        return {"staleness": mean, "staleness_max": float(largest[0])}
