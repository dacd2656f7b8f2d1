"""One process of a rank, from its claim to its end: rows, checkpoint, rounds, and what came of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.exchange import SlotExchange
from lambdaml_core.data.base import Data
from lambdaml_core.errors import (
    ResultLost,
    RunError,
    StorageError,
)
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.run.records.attempts import End, base_of, end_key
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.run.spec import (
    RESULT,
    Spec,
    put_json,
    run_channel,
)
from lambdaml_core.run.worker.asynchronous import (
    AsynchronousTrainer,
    ControlledExchange,
    SlotKeeper,
    is_asynchronous,
)
from lambdaml_core.run.worker.ending import result_of, write_model
from lambdaml_core.run.worker.heartbeat import CheckedData, Heart, Signs
from lambdaml_core.run.worker.inputs import Inputs, open_inputs
from lambdaml_core.run.worker.keeper import WorkerKeeper
from lambdaml_core.run.worker.leaving import Leave, Moment, TimeUp
from lambdaml_core.run.worker.left import leaving_channel
from lambdaml_core.run.worker.reporter import Reporter
from lambdaml_core.run.worker.succession import TimeLimit, hand_over
from lambdaml_core.run.worker.timing import TimedCommunicator
from lambdaml_core.run.worker.totals import Tally, round_before, totals_before
from lambdaml_core.run.worker.training import Outcome, Progress, Trainer
from lambdaml_core.storage import FullStorage


class Attempt:
    """One process of a rank, from its claim to its end."""

    def __init__(
        self,
        ref: WorkerRef,
        spec: Spec,
        store: FullStorage,
        launcher: Launcher,
        tally: Tally,
        stop: threading.Event,
    ) -> None:
        self._ref, self._spec, self._store, self._launcher, self._tally = ref, spec, store, launcher, tally
        self._limit = TimeLimit(launcher.remaining_s())
        self._heart = Heart(
            store,
            ref,
            period_s=spec.recovery.heartbeat_s or 1.0,
            state=self._state,
            longest_step_s=spec.recovery.longest_step_s,
            stop=stop,
        )
        self._signs = Signs(store, ref.generation, others=range(1, spec.workers) if ref.rank == 0 else ())
        self._replaces = ref.attempt > 0 or ref.generation > 0
        self._checkpoints = Checkpoints(
            store, generation=ref.generation, rank=ref.rank, size=spec.workers, base=base_of(store, ref.generation)
        )
        self._engine: Engine | None = None
        self._exchange: SlotExchange | None = None
        self._round = 0  # rounds done

    def work(self) -> None:
        """Train, and write down what came of it.

        Raises:
            Leave: another process goes on with this work.
        """
        if self._replaces:
            self._tally.go_on(totals_before(self._store, self._ref))
            self._round = round_before(self._store, self._ref)
        with self._heart:
            try:
                self._train_and_record()
            except Leave:
                raise
            except Exception:
                with contextlib.suppress(StorageError):
                    self._heart.beat()  # where another process does this work, an error tells nothing
                raise

    def _train_and_record(self) -> None:
        spec, ref = self._spec, self._ref
        with contextlib.ExitStack() as stack:
            inputs = stack.enter_context(open_inputs(spec, ref.rank, self._store, self._tally, self._heart.give_up))
            inputs.data.batch(0)  # imports what batches are made of
            channel = run_channel(spec.channel.open(self._tally.channel, lambda: self._check("wait")), spec.run)
            stack.enter_context(contextlib.closing(channel))
            reporter = stack.enter_context(self._reporter(inputs)) if ref.rank == 0 else None
            outcome = self._outcome(channel, inputs, reporter)
        if ref.rank == 0:
            files = write_model(self._store, spec, inputs.manifest, outcome)
            epochs = outcome.rounds * spec.steps_per_round / inputs.data.steps_per_epoch
            result = result_of(outcome, epochs, files, asynchronous=self._exchange is not None)
            put_json(self._store, RESULT, result, if_absent=True)
        clock = self._tally.clock
        clock.stop()  # so that the slices of the timeline add up to the totals
        end = End(attempt=ref.attempt, began_s=clock.began_s, timeline=clock.timeline(), totals=self._tally.totals())
        put_json(self._store, end_key(ref.generation, ref.rank), end)  # last: who has an end has done everything

    def _reporter(self, inputs: Inputs) -> Reporter:
        """What tells of the run's rounds."""
        spec = self._spec
        reporter = Reporter(
            self._store,
            run=spec.run,
            rounds=spec.rounds,
            steps_per_round=spec.steps_per_round,
            steps_per_epoch=inputs.data.steps_per_epoch,
            seconds=lambda: self._tally.totals()["seconds"],
            used=self._tally.meter(spec.usd),
        )
        if self._replaces:
            reporter.go_on()
        return reporter

    def _outcome(self, channel: FullStorage, inputs: Inputs, reporter: Reporter | None) -> Outcome:
        """All rounds from the newest checkpoint on."""
        with self._tally.clock.loading():
            checkpoint = self._checkpoints.newest() if self._replaces else None
        self._tally.clock.ready()
        self._tally.begin()
        self._heart.beat()
        restored, lost_at = self._ref.attempt > 0, -1
        while True:
            try:
                return self._train(channel, inputs, reporter, checkpoint, restored)
            except ResultLost:  # if the others have made checkpoints since, they have rightly deleted it
                self._heart.beat()
                exchange = self._exchange
                if exchange is not None and exchange.own.clock > lost_at:  # a process that is to end was quicker
                    restored, lost_at = True, exchange.own.clock
                    continue
                newer = self._checkpoints.newest()
                if newer is None or (checkpoint is not None and newer.round <= checkpoint.round):
                    raise
                checkpoint, restored = newer, True

    def _train(
        self,
        channel: FullStorage,
        inputs: Inputs,
        reporter: Reporter | None,
        checkpoint: Checkpoint | None,
        restored: bool,
    ) -> Outcome:
        """All rounds from this checkpoint on, and after them a barrier: nobody's messages are needed any more."""
        spec, ref, tally = self._spec, self._ref, self._tally
        engine = self._engine = Engine(
            channel,
            rank=ref.rank,
            size=spec.workers,
            aggregators=spec.aggregators,
            pattern=spec.pattern.load(),
            generation=ref.generation,
            sequence=checkpoint.sequence if checkpoint is not None else 0,
            restored=restored,
            deadline_s=spec.recovery.deadline_s,
            signs=self._look_around,
            interrupt=lambda: self._check("wait"),
        )
        if restored:
            engine.adopt()
        comm, optimizer = TimedCommunicator(engine, tally.clock), spec.optimizer.build()
        parts: dict[str, Any] = {
            "model": spec.model.build(),
            "optimizer": optimizer,
            "data": self._checked(inputs.data),
            "validation": inputs.validation and self._checked(inputs.validation),
            "comm": comm,
            "seed": spec.seed,
            "initial": inputs.initial,
            "evaluate": spec.evaluate,
            "stop": spec.stop,
            "elapsed_s": tally.elapsed_s(),
        }
        self._limit.begin(engine.waited_s)
        with contextlib.ExitStack() as stack:
            if is_asynchronous(spec.workers, optimizer):
                trainer: Trainer = self._asynchronously(channel, engine, reporter, restored, parts)
            else:
                trainer = self._in_step(engine, reporter, checkpoint, parts, stack)
            users = [engine] if self._exchange is None else [engine, self._exchange]
            stack.enter_context(leaving_channel(self._store, ref, spec.channel, *users))
            stack.enter_context(self._handing_over())
            outcome = trainer.run(spec.rounds)
            comm.barrier()
        return outcome

    def _in_step(
        self,
        engine: Engine,
        reporter: Reporter | None,
        checkpoint: Checkpoint | None,
        parts: Mapping[str, Any],
        stack: contextlib.ExitStack,
    ) -> Trainer:
        """Rounds that all ranks do together."""
        policy, limit = self._spec.checkpoint, self._limit
        keeper = WorkerKeeper(
            self._checkpoints, policy, restored=checkpoint, engine=engine, limit=limit, reporter=reporter
        )
        stack.enter_context(contextlib.closing(keeper))
        if keeper.saver is not None:
            self._tally.count(keeper.saver)

        def on_round(progress: Progress) -> None:
            self._round_done(progress.round)
            if reporter is not None:
                reporter.round(progress)

        self._done(checkpoint.round if checkpoint is not None else 0)
        return Trainer(on_round=on_round, keeper=keeper, **parts)

    def _asynchronously(
        self, channel: FullStorage, engine: Engine, reporter: Reporter | None, restored: bool, parts: Mapping[str, Any]
    ) -> AsynchronousTrainer:
        """Rounds in which nobody waits for all."""
        spec, ref = self._spec, self._ref
        exchange = self._exchange = SlotExchange(
            channel,
            rank=ref.rank,
            size=spec.workers,
            generation=ref.generation,
            restored=restored,
            deadline_s=spec.recovery.deadline_s,
            signs=self._signs,
            interrupt=lambda: self._check("wait"),
        )
        keeper = SlotKeeper(
            self._store, ref, spec.checkpoint, exchange, engine, self._limit, reporter, on_clock=self._round_done
        )
        self._tally.count(keeper)

        updates = spec.rounds * spec.workers
        controlled = ControlledExchange(
            exchange, updates=updates, least=self._round, kept=keeper.kept, clock=self._tally.clock
        )
        on_round = reporter.round if reporter is not None else lambda progress: None
        return AsynchronousTrainer(exchange=controlled, boundary=keeper.boundary, on_round=on_round, **parts)

    def _round_done(self, round: int) -> None:
        """This one, just now."""
        self._heart.check()
        self._done(round)
        self._tally.clock.round()

    def _done(self, round: int) -> None:
        """So many rounds are done."""
        self._round = round
        if self._engine is not None:
            self._engine.round = round + 1

    def _checked(self, data: Data) -> Data:
        """The same rows, between which the work can be left."""
        return CheckedData(data, lambda: self._check("work"))

    def _look_around(self, missing: Collection[int], sequence: int) -> Mapping[int, float]:
        """Signs of life of those that an engine waits for; they may wait for a slot that the channel has lost."""
        if self._exchange is not None:
            self._exchange.mend()
        return self._signs(missing, sequence)

    def _check(self, moment: Moment) -> None:
        self._heart.check()
        self._limit.check(moment)

    def _state(self) -> Mapping[str, Any]:
        """What a sign of life says."""
        engine = self._engine
        return {
            "sequence": engine.sequence if engine is not None else 0,
            "round": self._round,
            "waiting": engine is not None and engine.waiting,
            "remaining_s": self._limit.remaining_s(),
            "totals": self._tally.totals(),
        }

    @contextlib.contextmanager
    def _handing_over(self) -> Iterator[None]:
        """Where the time is up, the successor is started before anything else is done."""
        try:
            yield
        except TimeUp as e:
            recovery = self._spec.recovery
            if e.moment != "boundary" and not self._spec.checkpoint.enabled:
                raise RunError(
                    f"the time of the process was up within round {self._round + 1}, and there are no checkpoints",
                    hint="set checkpoint.enabled = true",
                ) from e
            self._tally.successions = 1
            if self._tally.totals()["successions"] > recovery.successions:
                raise RunError(
                    f"it has handed over more than {recovery.successions} times", hint="allow more recovery.successions"
                ) from e
            with contextlib.suppress(StorageError):
                self._heart.beat()  # the successor counts on from it
            hand_over(self._store, self._ref, self._launcher, round=self._round, moment=e.moment)
            raise
