"""Where ``broken_ranks.py`` and ``broken_rounds.py`` start from: a correct optimizer, and the suite it is run in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.testing.optimizer import OptimizerLaws

Array = NDArray[Any]


class Broken:
    """A correct optimizer, gradient descent with momentum, for the others to break."""

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None
    rate = 0.3

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return 1

    def start(self, w: Worker, params: Array) -> State:
        return State(params, {"velocity": np.zeros_like(params)}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        gradient = w.scratch("gradient", s.params.shape, s.params.dtype)
        totals = w.scratch("totals", (2,), np.float64)

        def fill(ready: Callable[[int, int], None]) -> None:
            self.work(w, s, gradient, totals)

        self.exchange(w, gradient, totals, fill)
        if totals[1]:
            self.step(w, s, gradient, totals[1])
        return {"loss": float(totals[0] / totals[1]) if totals[1] else np.nan}

    def batch(self, w: Worker) -> Batch:
        return w.data.batch(w.round)

    def work(self, w: Worker, s: State, gradient: Array, totals: Array) -> None:
        """The contribution of a rank: sums of gradient and loss, and its rows."""
        batch = self.batch(w)
        totals[:] = w.model.loss_and_gradient(s.params, batch, gradient), batch.n

    def exchange(self, w: Worker, gradient: Array, totals: Array, fill: Any) -> None:
        w.comm.all_reduce({"gradient": gradient, "totals": totals}, fill=fill)

    def step(self, w: Worker, s: State, gradient: Array, rows: float) -> None:
        velocity = s.shared["velocity"]
        velocity *= 0.5
        velocity -= self.rate * gradient / rows
        s.params[...] += velocity


class _Laws(OptimizerLaws):
    exact = True
    patience_s = 5.0
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return self.broken()


def broken_of(module: str, base: type[Broken] = Broken) -> list[type[Broken]]:
    """All that a module breaks, private bases left out."""
    found = [cls for cls in base.__subclasses__() if cls.__module__ == module and not cls.__name__.startswith("_")]
    return found + [each for cls in base.__subclasses__() for each in broken_of(module, cls)]


def suites_of(module: str) -> dict[str, type[Any]]:
    """Their test classes, by the names under which pytest finds them there."""
    suites = {f"Test{cls.__name__}": cls for cls in broken_of(module)}
    return {name: type(name, (_Laws,), {"broken": cls, "__module__": module}) for name, cls in suites.items()}
