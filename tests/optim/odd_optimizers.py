"""Correct optimizers of unusual shape; ``test_optimizer_kit.py`` runs them through all laws."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from broken_optimizer_base import Broken
from numpy.random import Generator
from numpy.typing import NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.comm.base import Arrays
from lambdaml_core.data.base import Batch, Data
from lambdaml_core.models.base import Model, Ready
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.testing.optimizer import OptimizerLaws, Rows

Array = NDArray[Any]


def gradient(w: Worker, params: Array, step: int) -> tuple[Array, Array]:
    """The sums of a mini-batch: its gradient, and its loss and rows."""
    batch, out = w.data.batch(step), np.empty_like(params)
    return out, np.array([w.model.loss_and_gradient(params, batch, out), batch.n])


class Counts:
    """State of integers, of no dimensions and of no elements; a rate that falls with what was counted."""

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return 1

    def start(self, w: Worker, params: Array) -> State:
        shared: dict[str, Array] = {
            "rounds": np.zeros((), np.int64),
            "signs": np.zeros(params.shape, np.int8),
            "none": np.zeros((0, 3)),
        }
        return State(params, shared, {"seen": np.zeros(1, np.uint16)})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        slope, totals = gradient(w, s.params, w.round)
        s.private["seen"] += w.data.batch(w.round).n
        w.comm.all_reduce({"slope": slope, "totals": totals})
        s.shared["rounds"] += 1
        s.shared["signs"][...] = np.sign(slope)
        s.params[...] -= np.float32(0.3 / (4 + s.shared["rounds"])) * s.shared["signs"]
        return {"loss": float(totals[0] / totals[1]) if totals[1] else math.nan, "rounds": int(s.shared["rounds"])}


class MeetsSeldom:
    """Ranks go their own ways, and meet in every third round; in the others there is no collective."""

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return 1

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {"loss": np.zeros(1)}, {"mine": params.copy()})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        mine = s.private["mine"]
        slope, totals = gradient(w, mine, w.round)
        mine[...] -= np.float32(0.3 / max(1, totals[1])) * slope
        if w.round % 3 == 0:
            weighted = mine * np.float32(w.data.rows)
            rows = np.array([w.data.rows])
            w.comm.all_reduce({"weighted": weighted, "rows": rows, "totals": totals})
            s.params[...] = weighted / np.float32(rows[0])
            mine[...] = s.params
            s.shared["loss"][0] = totals[0] / totals[1] if totals[1] else 0
        return {"loss": float(s.shared["loss"][0])}


class ChoosesASlope:
    """Several collectives a round: the largest entry of the sum decides what is stepped along. It knows when to stop.

    ``all_gather`` and ``broadcast`` are among them, with shapes that differ between ranks.
    """

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return steps_per_epoch

    def start(self, w: Worker, params: Array) -> State:
        rows = np.array([w.data.rows])
        w.comm.all_reduce({"rows": rows})
        return State(params, {"rows": rows}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        slope, totals = np.zeros_like(s.params), np.zeros(2)
        largest, least = np.zeros(1), np.zeros(1)

        def fill(ready: Callable[[int, int], None]) -> None:
            slope[...] = totals[...] = 0
            for t in range(w.data.steps_per_epoch):
                part, sums = gradient(w, s.params, t)
                slope[...] += part
                totals[...] += sums
            ready(0, slope.nbytes)

        w.comm.all_reduce({"slope": slope, "totals": totals}, fill=fill)
        largest[0] = least[0] = np.abs(slope).max() if w.rank == 0 else 0
        w.comm.all_reduce({"largest": largest, "least": least}, {"largest": "max", "least": "min"})
        names = w.comm.all_gather({"numbers": np.full(w.rank, w.rank, np.int32)})
        size = np.array([0.25 / float(s.shared["rows"][0])])
        w.comm.broadcast({"size": size}, root=len(names) - 1)
        w.comm.barrier()
        s.params[...] -= (size[0] * slope).astype(slope.dtype)
        loss = float(totals[0] / totals[1])
        return {"loss": loss, "largest": float(largest[0]), "stop": float(loss < 0.2)}


class RemembersSlopes:
    """SAG (Le Roux et al. 2012): each rank keeps the latest slope of each of its mini-batches, in room for each row.

    Private state of unequal size, empty where a rank has no row; draws from the generator of the round.
    """

    @functools.cached_property
    def rate(self) -> float:  # what only saves time may be kept
        return 0.2

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return 1

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {}, {"slopes": np.zeros((w.data.rows, params.size), np.float32)})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        slopes, totals = s.private["slopes"], np.zeros(2)
        step = int(w.rng("step").integers(w.data.steps_per_epoch)) if w.data.rows else 0
        if w.data.batch(step).n:
            slope, totals = gradient(w, s.params, step)
            slopes[step % len(slopes)] = slope / np.float32(totals[1])
        total = slopes.sum(axis=0)
        w.comm.all_reduce({"total": total, "totals": totals})
        s.params[...] -= np.float32(self.rate / (w.size * w.data.steps_per_epoch)) * total
        return {"loss": float(totals[0] / totals[1]) if totals[1] else math.nan}


class Centres:
    """The model of k-means for two centres: it knows statistics and no gradient."""

    def penalised(self, data: Data) -> slice:
        return slice(0, 0)

    def init(self, data: Data, rng: Generator) -> Array:
        return rng.standard_normal(2 * data.features)

    def near(self, params: Array, batch: Batch) -> tuple[Array, Array]:
        """The nearest centre of each row, and its squared distance, times the row's weight."""
        distances = ((batch.x[:, None, :] - params.reshape(2, -1)) ** 2).sum(axis=2)
        return distances.argmin(axis=1), distances.min(axis=1) * self.weights(batch)

    def weights(self, batch: Batch) -> Array:
        return np.ones(batch.n) if batch.weights is None else batch.weights

    def loss_and_gradient(self, params: Array, batch: Batch, out: Array, ready: Ready | None = None) -> float:
        raise NotImplementedError

    def predict(self, params: Array, batch: Batch) -> Array:
        return self.near(params, batch)[0].astype(np.float64)

    def score(self, params: Array, batch: Batch) -> Arrays:
        return {"totals": np.array([self.near(params, batch._replace(weights=None))[1].sum(), batch.n])}

    def metrics(self, totals: Arrays) -> Mapping[str, float]:
        return {"loss": float(totals["totals"][0] / totals["totals"][1])}


class Lloyd:
    """k-means: sums and counts are exchanged; an empty cluster keeps its centre. There is no step size."""

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return steps_per_epoch

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        assert isinstance(w.model, Centres)
        model, centres = w.model, s.params.reshape(2, -1)
        sums, counts, inertia = np.zeros_like(centres), np.zeros(2), np.zeros(2)

        def fill(ready: Callable[[int, int], None]) -> None:
            for array in (sums, counts, inertia):
                array[...] = 0
            for t in range(w.data.steps_per_epoch):
                batch = w.data.batch(t)
                near, distances = model.near(s.params, batch)
                np.add.at(sums, near, batch.x * model.weights(batch)[:, None])
                np.add.at(counts, near, model.weights(batch))
                inertia[:] += distances.sum(), batch.n

        w.comm.all_reduce({"sums": sums, "counts": counts, "inertia": inertia}, fill=fill)
        seen = counts > 0
        centres[seen] = sums[seen] / counts[seen, None]
        return {"loss": float(inertia[0] / inertia[1])}


class TestWhatIsBroken(OptimizerLaws):
    """What the broken ones have a mistake in."""

    exact = True

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return Broken()


class TestCounts(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return Counts()


class TestMeetsSeldom(OptimizerLaws):
    rounds = 5

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return MeetsSeldom()


class TestChoosesASlope(OptimizerLaws):
    """On numbers to learn."""

    exact = True
    rounds = 4  # it stops before

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return ChoosesASlope()

    @pytest.fixture
    def model(self) -> Model:
        return LeastSquares(LinearOptions())

    @pytest.fixture
    def rows(self) -> Rows:
        x = np.random.default_rng(0).standard_normal((43, 9)).astype(np.float32)
        return Rows(x, (x[:, 0] - x[:, 1] / 2).astype(np.float32), classes=0)


class TestRemembersSlopes(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return RemembersSlopes()


class TestLloyd(OptimizerLaws):
    exact = True
    sparse = False

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return Lloyd()

    @pytest.fixture
    def model(self) -> Model:
        return Centres()
