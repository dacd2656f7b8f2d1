"""MA-SGD (local SGD): workers take steps of their own, then go on from the mean of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import MASGDOptions
from lambdaml_core.optim import asynchronous
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.optim.schedule import rate
from lambdaml_core.optim.sgd import Step, mean_loss


class MASGD:
    """Model averaging (Zinkevich et al. 2010; Stich 2019, "Local SGD converges fast and communicates little").

    In a round every rank starts from the same parameters and takes its steps (:class:`~lambdaml_core.optim.sgd.Step`),
    as many on each rank: each with the gradient of its own part of a mini-batch, divided by the rows of that part. A
    part without rows is passed over. Then

        params <- sum of rows_i w_i / sum of rows_i

    where w_i are the parameters of rank i, and rows_i the rows that it went through in this round. One worker's
    parameters are taken as they are, so that it does plain mini-batch SGD.

    The velocity starts at rest in each round, so that ranks have no state of their own. With ``keep_momentum`` each
    keeps its velocity, in ``State.private``.

    With l1 every worker's parameters have exact zeros, and the mean has them where all workers have: it is less sparse
    than each (Yuan et al. 2021, "Federated composite optimization", call it the curse of primal averaging). GA-SGD
    does not have this.

    With an exchange, a rank that began at w and came to w_i adds to its own sum

        rows_i (w_i - w) / rows of such a round of all ranks

    and the parameters are those of the start plus everybody's sum (:mod:`~lambdaml_core.optim.asynchronous`), which is
    the mean above where all ranks are in step. The rate falls by the mean clock of all ranks.
    """

    def __init__(self, options: MASGDOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """``local_steps``, or the steps of ``local_epochs``."""
        return self._options.local_steps or self._options.local_epochs * steps_per_epoch

    @property
    def asynchronous(self) -> bool:
        """As :class:`~lambdaml_core.optim.asynchronous.SupportsExchange`."""
        return self._options.exchanges

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """At rest."""
        if w.exchange is not None:
            return asynchronous.start(w, params)
        kept = self._options.keep_momentum and self._options.momentum
        return State(params, {}, {"velocity": np.zeros_like(params)} if kept else {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """Local steps and one exchange. Returns ``loss``: the mean over all rows gone through, each before its step.

        A round in which no rank has a row changes nothing; its loss is NaN.

        Raises:
            RunError: the loss is not finite; raised on all ranks alike.
        """
        mine = w.scratch("mine", s.params.shape, s.params.dtype)
        totals = w.scratch("totals", (2,), np.float64)  # loss, and rows: whole numbers below 2^53 are exact
        if w.exchange is not None:
            return self._go_alone(w, s, mine, totals)

        def fill(ready: Callable[[int, int], None]) -> None:
            with np.errstate(over="ignore", invalid="ignore"):  # the loss tells
                self._work(w, s, mine, totals, self._velocity(w, s))
                if w.size > 1:
                    np.multiply(mine, mine.dtype.type(totals[1]), out=mine)

        message = {"params": mine, "totals": totals}
        if s.private:  # a replay must bring the velocity forward too, and may never call fill
            fill(lambda lo, hi: None)
            w.comm.all_reduce(message)
        else:
            w.comm.all_reduce(message, fill=fill)
        loss = mean_loss(totals, w.round)
        if totals[1]:
            np.divide(mine, mine.dtype.type(totals[1] if w.size > 1 else 1), out=s.params)
        return {"loss": loss}

    def _go_alone(self, w: Worker, s: State, mine: NDArray[Any], totals: NDArray[Any]) -> Mapping[str, float]:
        """The steps of this rank, published and merged."""
        steps = self.steps_per_round(w.data.steps_per_epoch)
        with np.errstate(over="ignore", invalid="ignore"):  # the loss tells
            first = int(s.private["clock"][0] * steps)
            self._work(w, s, mine, totals, self._velocity(w, s), first)
            loss, rows = totals.tolist()
            way = np.subtract(mine, s.params, dtype=np.float64)
            s.private["sum"] += rows * asynchronous.share_of(w, s, steps) * way
        return asynchronous.exchange(w, s, loss, rows, self._options.staleness)

    def _work(
        self,
        w: Worker,
        s: State,
        mine: NDArray[Any],
        totals: NDArray[Any],
        velocity: NDArray[Any] | None,
        seen: int | None = None,
    ) -> None:
        """The steps of this rank: its parameters, and its loss and rows.

        Args:
            seen: number of the first step for the rate, where ranks do not take them together.
        """
        o = self._options
        steps = self.steps_per_round(w.data.steps_per_epoch)
        gradient = w.scratch("gradient", mine.shape, mine.dtype)
        mine[:] = s.params
        take = Step(o, w, mine, gradient, velocity)
        first = w.round * steps
        ahead, epoch = (0, None) if seen is None else (seen - first, w.data.steps_per_epoch)
        loss, rows = 0.0, 0
        for t in range(first, first + steps):
            batch = w.data.batch(t)
            if batch.n:
                loss += w.model.loss_and_gradient(mine, batch, gradient)
                rows += batch.n
                take(rate(o, t + ahead, w.rounds * steps, epoch), batch.n)
        totals[:] = loss, rows

    def _velocity(self, w: Worker, s: State) -> NDArray[Any] | None:
        if not self._options.momentum or self._options.keep_momentum:
            return s.private.get("velocity")
        velocity = w.scratch("velocity", s.params.shape, s.params.dtype)
        velocity[:] = 0
        return velocity
