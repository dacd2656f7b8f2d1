"""Rounds of one worker: where it starts, when it looks at the validation rows, what its random numbers come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from runs_help import cancer

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.builtin import LinearOptions
from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.run.spec import Stop
from lambdaml_core.run.worker.stopping import LossWatch
from lambdaml_core.run.worker.training import Outcome, Progress, Trainer, evaluation_period, keyed_generator
from lambdaml_core.storage import open_storage


class Recorder:
    """An optimizer that does nothing but stop after so many rounds, and remember what it was given."""

    def __init__(self, stop_after: int = 0, losses: Sequence[float] = (0.5,)) -> None:
        self._stop_after, self._losses = stop_after, losses
        self.rounds: list[int] = []
        self.scratch: list[int] = []
        self.drawn: list[float] = []

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return 1

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        return State(params, {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        self.rounds.append(w.round)
        self.scratch.append(w.scratch("a", (3,), np.float64).__array_interface__["data"][0])
        self.drawn.append(float(w.rng("x").random()))
        loss = self._losses[w.round % len(self._losses)]
        return {"loss": loss, "stop": float(len(self.rounds) == self._stop_after), "primal": 1 / len(self.rounds)}


def rows(*, batch_size: int = 100, validation: float = 0.2) -> tuple[ShardedData, ShardedData | None]:
    """All rows of the real data, to train and to validate on."""
    store = open_storage("memory://training")
    store.delete(list(store.list("")))
    manifest = write_arrays(*cancer(), store, shards=2, validation=validation)
    train, check = (
        ShardedData(store, manifest, rank=0, size=1, batch_size=batch_size, split=split)
        for split in ("train", "validation")
    )
    return train, check if manifest.validation_rows else None


def run(rounds: int, recorder: Recorder, **keys: Any) -> tuple[list[Progress], Outcome]:
    """Train on one worker."""
    progress: list[Progress] = []
    data, validation = rows(validation=keys.pop("validation", 0.2))
    engine = Engine(open_storage("memory://training"), rank=0, size=1)
    settings: dict[str, Any] = {"evaluate": 5, "stop": Stop(), "model": LogisticRegression(LinearOptions())} | keys
    trainer = Trainer(
        optimizer=recorder,
        data=data,
        validation=validation,
        comm=engine,
        seed=0,
        on_round=progress.append,
        **settings,
    )
    return progress, trainer.run(rounds)


def test_figures_come_at_looks_and_at_the_end_of_the_run() -> None:
    recorder = Recorder()
    progress, outcome = run(12, recorder)
    assert recorder.rounds == list(range(12))
    assert [p.round for p in progress] == list(range(1, 13))
    assert [p.round for p in progress if p.figures is not None] == [5, 10, 12]
    assert [p.round_figures for p in progress] == [{"primal": 1 / n} for n in range(1, 13)]
    assert outcome.round_figures == {"primal": 1 / 12}
    assert (outcome.rounds, outcome.stop_reason) == (12, "rounds")
    assert outcome.train_loss == pytest.approx(np.log(2))
    assert outcome.figures["loss"] == pytest.approx(np.log(2))


def test_the_optimizer_may_stop() -> None:
    progress, outcome = run(12, Recorder(stop_after=3))
    assert (outcome.rounds, outcome.stop_reason) == (3, "converged")
    assert [p.round for p in progress if p.figures is not None] == [3]


def test_seconds_are_counted_from_the_first_round() -> None:
    ticks = iter(range(100, 200))
    progress, _ = run(4, Recorder(), now=lambda: next(ticks))
    assert [p.seconds for p in progress] == [1, 2, 3, 4]


def test_it_starts_from_what_it_is_given_and_leaves_that_as_it_is() -> None:
    given = np.arange(31, dtype=np.float32)
    _, outcome = run(2, Recorder(), initial=given)
    np.testing.assert_array_equal(outcome.params, np.arange(31))
    assert not np.shares_memory(outcome.params, given)


class Adrift:
    """A model whose workers would each start somewhere else: rows of its own, as k-means has."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __getattr__(self, name: str) -> Any:
        return getattr(LogisticRegression(LinearOptions()), name)

    def init(self, data: Any, rng: Any) -> NDArray[Any]:
        return np.full(31, self._rank + rng.random(), np.float32)


def test_every_rank_starts_from_the_parameters_of_rank_0() -> None:
    outcomes: dict[int, Outcome] = {}
    data, _ = rows()

    def work(rank: int) -> None:
        engine = Engine(open_storage("memory://adrift"), rank=rank, size=3)
        outcomes[rank] = Trainer(
            model=Adrift(rank),
            optimizer=Recorder(),
            data=data,
            validation=None,
            comm=engine,
            seed=0,
            evaluate=1,
            stop=Stop(),
            on_round=lambda progress: None,
        ).run(1)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, rank) for rank in range(3)]:
            done.result()
    assert 0 < outcomes[0].params[0] < 1
    for rank in (1, 2):
        np.testing.assert_array_equal(outcomes[rank].params, outcomes[0].params)


# --- stops ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "losses", "rounds"),
    [
        (Stop(loss=0.5), [0.9, 0.7, 0.8, 0.4, 0.5, 0.4], 6),  # means of two: 0.8, 0.6, 0.45
        (Stop(loss=0.1), [0.9, 0.7], 12),
        (Stop(improvement=0.1, patience=2), [1.0, 1.0, 0.8, 0.8, 0.75, 0.75, 0.74, 0.74], 8),
        (Stop(improvement=0.1, patience=2), [1.0, 1.0, 0.95, 0.95, 0.85, 0.85, 0.75, 0.75, 0.7, 0.7, 0.7, 0.7], 12),
        (Stop(improvement=0.0), [0.5], 8),  # the first look, and three that saw no less
        (Stop(loss=0.5), [math.nan, 0.4, math.nan], 2),  # rounds without rows have no loss
        (Stop(improvement=0.5, patience=1), [math.nan], 2),
    ],
)
def test_stops_without_validation_rows_go_by_the_mean_training_loss(
    stop: Stop, losses: list[float], rounds: int
) -> None:
    _, outcome = run(12, Recorder(losses=losses), validation=0, evaluate=2, stop=stop)
    assert outcome.rounds == rounds
    reason = "loss" if stop.loss is not None else "no improvement"
    assert outcome.stop_reason == ("rounds" if stop.loss == 0.1 else reason)


def test_with_validation_rows_it_is_their_loss_that_counts() -> None:
    """log 2 for parameters of 0, whatever the training loss."""
    _, outcome = run(12, Recorder(losses=[0.0]), stop=Stop(loss=0.69))
    assert (outcome.rounds, outcome.stop_reason) == (12, "rounds")
    _, outcome = run(12, Recorder(losses=[9.0]), stop=Stop(loss=0.70))
    assert (outcome.rounds, outcome.stop_reason) == (5, "loss")


@given(
    losses=st.lists(st.floats(0, 10) | st.just(math.nan), min_size=1, max_size=30),
    improvement=st.sampled_from([0.0, 0.01, 0.5]),
    patience=st.integers(1, 4),
)
def test_patience(losses: list[float], improvement: float, patience: int) -> None:
    """It stops at the first look that ends ``patience`` looks none of which came below the best before it by enough."""
    watch = LossWatch(Stop(improvement=improvement, patience=patience))
    stopped = next((i for i, loss in enumerate(losses) if watch.reason(loss)), None)

    def stale(i: int) -> bool:
        before = [loss for loss in losses[:i] if not math.isnan(loss)]
        return math.isnan(losses[i]) or (bool(before) and not min(before) - losses[i] > improvement * min(before))

    looks = range(patience - 1, len(losses))
    assert stopped == next((i for i in looks if all(stale(j) for j in range(i - patience + 1, i + 1))), None)


class Slow(Recorder):
    """An optimizer whose rounds take a time that its own clock shows."""

    def __init__(self, paces: Sequence[float]) -> None:
        super().__init__()
        self._paces, self.time = paces, 100.0

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        def fill(ready: Any) -> None:
            self.time += self._paces[w.round % len(self._paces)]

        w.comm.all_reduce({"a": w.scratch("a", (3,), np.float64)}, fill=fill)
        return super().round(w, s)


@given(
    seconds=st.floats(0.01, 30), paces=st.lists(st.floats(0.01, 10), min_size=1, max_size=5), elapsed=st.floats(0, 20)
)
def test_the_first_round_that_ends_after_its_time_is_the_last(
    seconds: float, paces: list[float], elapsed: float
) -> None:
    """Counted on from where another attempt was."""
    slow = Slow(paces)
    progress, outcome = run(12, slow, stop=Stop(seconds=seconds), elapsed_s=elapsed, now=lambda: slow.time)
    until = elapsed + np.cumsum(np.resize(paces, 12))
    late = next((i for i, end in enumerate(until) if end >= seconds), 11) + 1
    assert [p.seconds for p in progress] == pytest.approx(until[: len(progress)])
    if min(abs(until - seconds)) > 1e-9:
        assert outcome.rounds == late
        assert outcome.stop_reason == ("seconds" if until[late - 1] >= seconds else "rounds")


def test_the_time_is_that_of_rank_0_for_all_ranks_and_for_replacements() -> None:
    """Whose clocks are no use: what the results of the rounds say is final."""
    data, _ = rows()

    def work(rank: int, restored: bool) -> tuple[int, str]:
        engine = Engine(open_storage("memory://times"), rank=rank, size=3, restored=restored)
        engine.frontier = 0
        slow = Slow([1.0])
        trainer = Trainer(
            model=LogisticRegression(LinearOptions()),
            optimizer=slow,
            data=data,
            validation=None,
            comm=engine,
            seed=0,
            evaluate=1,
            stop=Stop(seconds=4),
            on_round=lambda progress: None,
            now=(lambda: 0.0) if rank or restored else (lambda: slow.time),
        )
        outcome = trainer.run(12)
        return outcome.rounds, outcome.stop_reason

    for restored in (False, True):
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(work, rank, restored) for rank in range(3)]
            assert [each.result() for each in done] == [(4, "seconds")] * 3


# --- small things ---------------------------------------------------------------------------------------------


def test_scratch_is_one_aligned_array_and_rounds_draw_other_numbers() -> None:
    first, second = Recorder(), Recorder()
    run(6, first)
    run(6, second)
    assert len(set(first.scratch)) == 1
    assert first.scratch[0] % 64 == 0
    assert len(set(first.drawn)) == 6
    assert first.drawn == second.drawn


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
