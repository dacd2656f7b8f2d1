"""Rounds of one worker: when it looks at the validation rows, when it stops, what its random numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_help import cancer

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.builtin import LogisticRegressionOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.run.timing import Clock, TimedCommunicator
from lambdaml_core.run.training import Outcome, Progress, Trainer, evaluation_period, keyed_generator
from lambdaml_core.storage import open_storage


class Recorder:
    """An optimizer that does nothing but stop after so many rounds, and remember what it was given."""

    def __init__(self, stop_after: int) -> None:
        self._stop_after = stop_after
        self.rounds: list[int] = []
        self.scratch: list[int] = []
        self.drawn: list[float] = []

    def start(self, w: Worker) -> State:
        return State(w.model.init(w.data, w.rng("init")), {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        self.rounds.append(w.round)
        self.scratch.append(w.scratch("a", (3,), np.float64).__array_interface__["data"][0])
        self.drawn.append(float(w.rng("x").random()))
        return {"loss": 0.5, "stop": float(len(self.rounds) == self._stop_after)}


def run(rounds: int, *, stop_after: int = 0, batch_size: int = 100) -> tuple[Recorder, list[Progress], Outcome]:
    store = open_storage("memory://training")
    store.delete(list(store.list("")))
    manifest = write_arrays(*cancer(), store, shards=2)
    data, validation = (
        ShardedData(store, manifest, rank=0, size=1, batch_size=batch_size, split=split)
        for split in ("train", "validation")
    )
    progress: list[Progress] = []
    recorder = Recorder(stop_after)
    trainer = Trainer(
        model=LogisticRegression(LogisticRegressionOptions()),
        optimizer=recorder,
        data=data,
        validation=validation,
        comm=TimedCommunicator(Engine(store, rank=0, size=1), Clock()),
        seed=0,
        on_round=progress.append,
    )
    return recorder, progress, trainer.run(rounds)


def test_figures_come_at_the_end_of_epochs_and_of_the_run() -> None:
    recorder, progress, outcome = run(12)
    assert recorder.rounds == list(range(12))
    assert [p.round for p in progress if p.figures is not None] == [5, 10, 12]
    assert (outcome.rounds, outcome.stop_reason) == (12, "rounds")
    assert outcome.train_loss == pytest.approx(np.log(2))
    assert outcome.figures["loss"] == pytest.approx(np.log(2))


def test_the_optimizer_may_stop() -> None:
    _, progress, outcome = run(12, stop_after=3)
    assert (outcome.rounds, outcome.stop_reason) == (3, "converged")
    assert [p.round for p in progress if p.figures is not None] == [3]


def test_scratch_is_one_aligned_array_and_rounds_draw_other_numbers() -> None:
    recorder, _, _ = run(6)
    assert len(set(recorder.scratch)) == 1
    assert recorder.scratch[0] % 64 == 0
    assert len(set(recorder.drawn)) == 6
    assert recorder.drawn == run(6)[0].drawn


@given(rounds=st.integers(1, 10**7), steps=st.integers(1, 10**4))
def test_looks_are_at_ends_of_epochs_and_not_too_many(rounds: int, steps: int) -> None:
    period = evaluation_period(rounds, steps)
    assert period % steps == 0
    assert rounds // period <= 200
    if rounds <= 200 * steps:
        assert period == steps


@given(keys=st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3, st.text(max_size=5)), min_size=2, max_size=2))
def test_random_numbers_are_a_function_of_their_key(keys: list[tuple[int, int, int, str]]) -> None:
    a, b = (keyed_generator(*key).integers(0, 2**63, 4).tolist() for key in keys)
    assert (a == b) == (keys[0] == keys[1])


@given(shape=st.lists(st.integers(0, 9), max_size=3).map(tuple), dtype=st.sampled_from(["f2", "f4", "f8", "i8", "u1"]))
def test_aligned_arrays(shape: tuple[int, ...], dtype: str) -> None:
    array = aligned_empty(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.__array_interface__["data"][0] % 64 == 0 or array.size == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = 1
    assert array.sum() == array.size


class Slow:
    """A communicator whose time is known."""

    rank, size, waited_s = 0, 1, 0.0

    def __init__(self, now: list[float]) -> None:
        self._now = now

    def all_reduce(self, x: Any, op: Any = "sum", *, fill: Any = None) -> None:
        self._now[0] += 1
        if fill is not None:
            fill(lambda lo, hi: None)
        self._now[0] += 2
        self.waited_s += 2

    def all_gather(self, x: Any) -> Any:
        self._now[0] += 8
        return [x]

    def broadcast(self, x: Any, root: int = 0) -> None:
        self._now[0] += 16

    def barrier(self) -> None:
        self._now[0] += 32
        self.waited_s += 32


def test_where_the_time_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the test moves: a fill is computing, and what the engine waited is waiting."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock()
    with clock.loading():
        now[0] += 64
    clock.ready(started_s=65.0)
    comm = TimedCommunicator(Slow(now), clock)

    def fill(ready: Any) -> None:
        now[0] += 128

    comm.all_reduce({}, fill=fill)
    assert clock.report() == {"start": 1.0, "load": 64.0, "communicate": 1.0, "wait": 2.0, "compute": 128.0}
    comm.all_reduce({})
    comm.all_gather({})
    comm.broadcast({})
    comm.barrier()
    now[0] += 256
    assert clock.report() == {"start": 1.0, "load": 64.0, "communicate": 26.0, "wait": 36.0, "compute": 384.0}
