"""GA-SGD: in every round the mini-batch's gradient is averaged over all workers, and all take the same step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.optim import asynchronous
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.optim.schedule import rate
from lambdaml_core.optim.sgd import Step, mean_loss


class GASGD:
    """Mini-batch gradient descent: a round is one step (:class:`~lambdaml_core.optim.sgd.Step`) of all ranks together.

    Its gradient is that of ``accumulate`` mini-batches, those of all ranks: sums of gradients and counts of rows are
    added, and divided once. ``State.shared`` holds the velocity where there is momentum.

    With an exchange each rank takes steps of its own, with the gradient at the parameters that it has seen last:

        sum_i <- sum_i - rate (sum of gradients + rows l2 w) / rows of such a round of all ranks

    and the parameters are those of the start plus everybody's sum (:mod:`~lambdaml_core.optim.asynchronous`). The rate
    falls by the mean clock of all ranks, so that slow ranks do not take large steps late.
    """

    def __init__(self, options: GASGDOptions) -> None:
        self._options = options
        self._latest: Step | None = None  # nothing but time would be lost with it

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """``accumulate`` mini-batches."""
        return self._options.accumulate

    @property
    def asynchronous(self) -> bool:
        """As :class:`~lambdaml_core.optim.asynchronous.SupportsExchange`."""
        return self._options.exchanges

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """At rest."""
        if w.exchange is not None:
            return asynchronous.start(w, params)
        return State(params, {"velocity": np.zeros_like(params)} if self._options.momentum else {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """One step. Returns ``loss``, the mean loss of the rows of this round before the step, without penalties.

        A round in which no rank has a row changes nothing; its loss is NaN.

        Raises:
            RunError: the loss is not finite; raised on all ranks alike.
        """
        gradient = w.scratch("gradient", s.params.shape, s.params.dtype)
        totals = w.scratch("totals", (2,), np.float64)  # loss, and rows: whole numbers below 2^53 are exact
        if w.exchange is not None:
            return self._go_alone(w, s, gradient, totals)

        def fill(ready: Callable[[int, int], None]) -> None:
            self._accumulate(w, s.params, gradient, totals)

        w.comm.all_reduce({"gradient": gradient, "totals": totals}, fill=fill)
        loss = mean_loss(totals, w.round)
        if totals[1]:
            step = self._step(w, s, gradient)
            with np.errstate(over="ignore", invalid="ignore"):  # the loss of the next round tells
                step(rate(self._options, w.round, w.rounds), totals[1])
        return {"loss": loss}

    def _go_alone(self, w: Worker, s: State, gradient: NDArray[Any], totals: NDArray[Any]) -> Mapping[str, float]:
        """One step of this rank, published and merged."""
        o = self._options
        self._accumulate(w, s.params, gradient, totals)
        loss, rows = totals.tolist()
        if o.l2:
            penalised = w.model.penalised(w.data)
            gradient[penalised] += s.params.dtype.type(o.l2 * rows) * s.params[penalised]
        epoch = max(1, w.data.steps_per_epoch // o.accumulate)
        step_size = rate(o, int(s.private["clock"][0]), w.rounds, epoch)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss tells
            s.private["sum"] -= step_size * asynchronous.share_of(w, s, o.accumulate) * gradient.astype(np.float64)
        return asynchronous.exchange(w, s, loss, rows, o.staleness)

    def _step(self, w: Worker, s: State, gradient: NDArray[Any]) -> Step:
        """The step of these arrays, which are the same ones from round to round."""
        step = self._latest
        if step is None or step.params is not s.params or step.gradient is not gradient:
            step = self._latest = Step(self._options, w, s.params, gradient, s.shared.get("velocity"))
        return step

    def _accumulate(self, w: Worker, params: NDArray[Any], gradient: NDArray[Any], totals: NDArray[Any]) -> None:
        first = w.round * self._options.accumulate
        batch = w.data.batch(first)
        totals[:] = w.model.loss_and_gradient(params, batch, gradient), batch.n
        for t in range(first + 1, first + self._options.accumulate):
            batch = w.data.batch(t)
            if batch.n:
                part = w.scratch("part", params.shape, params.dtype)
                totals += w.model.loss_and_gradient(params, batch, part), batch.n
                gradient += part
