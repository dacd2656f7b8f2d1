"""Optimizers with mistakes that replays, other surroundings or the trained model show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
from broken_optimizer_base import Array, Broken, suites_of
from numpy.random import Generator

from lambdaml_core.data.base import Batch
from lambdaml_core.optim.base import State, Worker

# --- replays --------------------------------------------------------------------------------------------------


class NeedsWhatFillFound(Broken):
    law = "test_replay_from_every_round_gives_the_same_bytes"
    rows = 0

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        self.rows = self.batch(w).n

    def start(self, w: Worker, params: Array) -> State:
        return super().start(w, params)._replace(private={"seen": np.zeros(1)})

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s, gradient, rows)
        s.private["seen"] += self.rows


class AdvancesAGenerator(Broken):
    law = "test_replay_with_any_prefix_of_results_gives_the_same_bytes"
    generator: Generator | None = None

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        self.generator = self.generator or w.rng("noise")
        gradient += self.generator.standard_normal(gradient.shape).astype(gradient.dtype)


class HoldsOnToTheStart(Broken):
    law = "test_resumed_equals_uninterrupted"
    anchor: Array | None = None

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        if self.anchor is None:
            self.anchor = s.params + 1
        return super().round(w, s)

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s, gradient, rows)
        if self.anchor is not None:
            s.params[...] += 0.01 * (self.anchor - s.params)


class FillsPrivateState(Broken):
    law = "test_fill_writes_nothing_but_its_arrays"

    def start(self, w: Worker, params: Array) -> State:
        return super().start(w, params)._replace(private={"seen": np.zeros(1)})

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        s.private["seen"] += totals[1]


class ComputesAtOnce(Broken):
    law = "test_replayed_rounds_compute_nothing"

    def exchange(self, w: Worker, gradient: Array, totals: Array, fill: Any) -> None:
        fill(lambda lo, hi: None)
        super().exchange(w, gradient, totals, None)


class RemembersItsVelocity(Broken):
    law = "test_an_instance_remembers_nothing"
    mistake = "what training needs never reaches a checkpoint"
    velocity: Array | float = 0.0

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        self.velocity = 0.5 * self.velocity - self.rate * gradient / rows
        s.params[...] += self.velocity


class KeepsItsVelocityInScratch(Broken):
    law = "test_scratch_means_nothing_between_rounds"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        velocity = w.scratch("velocity", gradient.shape, gradient.dtype)
        velocity[...] = (0.5 * velocity if w.round else 0) - self.rate * gradient / rows
        s.params[...] += velocity


# --- surroundings ---------------------------------------------------------------------------------------------


class DrawsFromTheGlobalGenerator(Broken):
    law = "test_two_runs_give_the_same_bytes"

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        gradient += np.random.standard_normal(gradient.shape).astype(gradient.dtype)


class LetsTheLastWriterWin(Broken):
    """One model, that everybody overwrites with its own step."""

    law = "test_order_of_arrival_changes_nothing"
    mistake = "the last writer wins and work is lost"
    models: ClassVar[dict[int, Array]] = {}

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        model, gradient, totals = self.models.get(w.round, s.params), np.empty_like(s.params), np.zeros(2)
        batch = self.batch(w)
        totals[:] = w.model.loss_and_gradient(model, batch, gradient), batch.n
        self.models[w.round] = model - self.rate * gradient / max(1, batch.n)
        w.comm.all_reduce({"totals": totals})
        s.params[...] = self.models[w.round]
        w.comm.barrier()
        self.models.pop(w.round, None)
        return {"loss": float(totals[0] / totals[1])}


class _Curious(Broken):
    law = "test_a_round_looks_at_nothing_but_its_arguments"

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        self.look()
        return super().round(w, s)

    def look(self) -> None:
        raise NotImplementedError


class AsksTheTime(_Curious):
    def look(self) -> None:
        self.rate = 0.3 if monotonic() >= 0 else 0.1


class AsksTheEnvironment(_Curious):
    def look(self) -> None:
        self.rate = float(os.environ.get("RATE", "0.3"))


class AsksForChance(_Curious):
    def look(self) -> None:
        self.rate = 0.3 if np.random.default_rng().random() >= 0 else 0.1


class OpensAFile(_Curious):
    def look(self) -> None:
        self.rate = 0.3 if Path(os.devnull).read_text() == "" else 0.1


class ScalesRowsInPlace(Broken):
    law = "test_rows_are_left_as_they_are"

    def batch(self, w: Worker) -> Batch:
        batch = super().batch(w)
        batch.x[...] *= 0.5
        return batch


# --- what comes out -------------------------------------------------------------------------------------------


class Climbs(Broken):
    law = "test_it_learns"
    rate = -0.3


class TrainsACopy(Broken):
    law = "test_it_learns"
    mistake = "the trained model is thrown away at the end"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s._replace(params=s.params.copy()), gradient, rows)


class MultipliesRows(Broken):
    """``*`` is another product for sparse rows."""

    law = "test_sparse_rows_are_as_good_as_dense_ones"

    def batch(self, w: Worker) -> Batch:
        batch = super().batch(w)
        return batch._replace(x=batch.x * np.ones(batch.x.shape[1], np.float32))


class LeavesWeightsOut(Broken):
    law = "test_weights_of_rows_reach_the_model"

    def batch(self, w: Worker) -> Batch:
        return super().batch(w)._replace(weights=None)


class AveragesAverages(Broken):
    law = "test_the_number_of_workers_changes_nothing_but_rounding"
    mistake = "averaged without their counts"

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        rows = max(1, totals[1])
        gradient /= rows
        totals[:] = totals[0] / rows, 1


class SumsWhereOthersAverage(Broken):
    """Divides by the rows of one rank, so that the step grows with the number of ranks."""

    law = "test_the_number_of_workers_changes_nothing_but_rounding"
    mistake = "sum in one place and mean in another"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s, gradient, rows / w.size)


globals().update(suites_of(__name__))
