"""Optimizers with mistakes in their state, or in what all ranks must have alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from broken_optimizer_base import Array, Broken, suites_of

from lambdaml_core.optim.base import State, Worker

# --- the state ------------------------------------------------------------------------------------------------


class ForgetsParameters(Broken):
    law = "test_it_starts_from_the_parameters_it_is_given"

    def start(self, w: Worker, params: Array) -> State:
        return super().start(w, np.zeros_like(params))


class StartsAnywhere(Broken):
    law = "test_starts_are_equal"

    def start(self, w: Worker, params: Array) -> State:
        noise = np.random.default_rng().standard_normal(params.shape)
        return State(params, {"velocity": noise.astype(params.dtype)}, {})


class StartsFromModelsOfTheirOwn(Broken):
    law = "test_all_ranks_start_alike"
    mistake = "workers start from different random models"

    def start(self, w: Worker, params: Array) -> State:
        params[...] = w.rng("init").standard_normal(params.shape)
        return super().start(w, params)


class SharesRandomDuals(Broken):
    law = "test_all_ranks_start_alike"
    mistake = "duals shared by all workers"

    def start(self, w: Worker, params: Array) -> State:
        duals = w.rng("duals").standard_normal(params.shape)
        return State(params, {**super().start(w, params).shared, "duals": duals}, {})


class KeepsAView(Broken):
    law = "test_a_checkpoint_can_hold_the_state"

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {**super().start(w, params).shared, "bias": params[-1:]}, {})


class KeepsWords(Broken):
    law = "test_a_checkpoint_can_hold_the_state"

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {**super().start(w, params).shared, "phase": np.array(["warm"])}, {})


class HasPrivateStateOnSomeRanks(Broken):
    law = "test_a_checkpoint_can_hold_the_state"

    def start(self, w: Worker, params: Array) -> State:
        return super().start(w, params)._replace(private={"mine": np.zeros(3)} if w.rank else {})


class BindsAnew(Broken):
    law = "test_arrays_of_the_state_stay"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        s.shared["velocity"] = 0.5 * s.shared["velocity"] - self.rate * gradient / rows
        s.params[...] += s.shared["velocity"]


class AddsLater(Broken):
    law = "test_arrays_of_the_state_stay"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s, gradient, rows)
        s.shared.setdefault("seen", np.zeros(1))[0] += rows


class TakesHalfSteps(Broken):
    law = "test_steps_of_a_round_are_a_number"

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return steps_per_epoch // 2


# --- what ranks must have alike -------------------------------------------------------------------------------


class ExchangesEachRow(Broken):
    law = "test_all_ranks_make_the_same_collectives"
    mistake = "workers with different numbers of batches wait for each other for ever"

    def exchange(self, w: Worker, gradient: Array, totals: Array, fill: Any) -> None:
        for _ in range(max(1, -(-w.data.rows // 4))):
            super().exchange(w, gradient, totals, fill)


class NamesItsMessage(Broken):
    law = "test_all_ranks_make_the_same_collectives"

    def exchange(self, w: Worker, gradient: Array, totals: Array, fill: Any) -> None:
        w.comm.all_reduce({f"gradient {w.rank}": gradient, "totals": totals}, fill=fill)


class StopsByItsOwnLoss(Broken):
    law = "test_all_ranks_return_the_same_figures"
    mistake = "one rank decides for itself when to stop"

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        figures = super().round(w, s)
        own = w.model.loss_and_gradient(s.params, self.batch(w), np.empty_like(s.params))
        return {**figures, "stop": float(own < 0.5 * max(1, self.batch(w).n))}


class TellsItsOwnLoss(Broken):
    law = "test_all_ranks_return_the_same_figures"

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        super().round(w, s)
        batch = self.batch(w)
        return {"loss": w.model.loss_and_gradient(s.params, batch, np.empty_like(s.params)) / max(1, batch.n)}


class SharesWhatIsItsOwn(Broken):
    law = "test_shared_state_is_equal_on_all_ranks"
    mistake = "a rank's own sums are kept as everybody's"

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {**super().start(w, params).shared, "rows": np.zeros(1)}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        s.shared["rows"] += self.batch(w).n
        return super().round(w, s)


class TrainsItsBiasAlone(Broken):
    law = "test_shared_state_is_equal_on_all_ranks"
    mistake = "the bias never exchanged"

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        super().step(w, s, gradient, rows)
        own = np.empty_like(s.params)
        w.model.loss_and_gradient(s.params, self.batch(w), own)
        s.params[-1] -= self.rate * own[-1]


class GivesArrays(Broken):
    law = "test_figures_are_numbers"

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        return {name: np.float32(value) for name, value in super().round(w, s).items()}  # type: ignore[misc]


class GivesNoLoss(Broken):
    law = "test_figures_are_numbers"

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        super().round(w, s)
        return {}


class DividesByItsOwnRows(Broken):
    law = "test_ranks_may_have_no_rows"

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        super().work(w, s, gradient, totals)
        with np.errstate(invalid="ignore"):
            gradient /= totals[1]


globals().update(suites_of(__name__))
