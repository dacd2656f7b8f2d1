"""Watch runs from Python, and give up those that are not worth their time: ``python examples/on_round.py``.

``on_round`` is called with every round, while the run goes on. An exception that it raises cancels the run and comes
out of ``train``. (To stop a run and keep its model, give ``train`` a ``stop`` such as ``{"loss": 0.2}``.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from lambdaml_core import train

LOOK_AT = 40  # the round after which runs are compared


class Hopeless(Exception):
    """The run is behind the best one so far."""


class Watch:
    """Prints some losses of a run, and gives it up if another was better at the same round."""

    def __init__(self, best: float) -> None:
        self.best = best

    def __call__(self, now: Mapping[str, Any]) -> None:
        if now["round"] % 20 == 0:
            print(f"  round {now['round']:4}  {now['seconds']:6.2f} s  loss {now['loss']:.4f}")
        if now["round"] == LOOK_AT:
            if now["loss"] > self.best:
                raise Hopeless(f"{now['loss']:.4f} after {LOOK_AT} rounds, and another had {self.best:.4f}")
            self.best = now["loss"]


# Two clouds of points in 20 dimensions that overlap.
rng = np.random.default_rng(0)
y = rng.integers(0, 2, 20_000)
x = rng.normal(size=(20_000, 20)) + 0.3 * y[:, None]

best = float("inf")
with tempfile.TemporaryDirectory() as store:
    for learning_rate in (0.1, 1.0, 0.001, 10.0):
        print(f"learning rate {learning_rate}")
        watch = Watch(best)
        try:
            run = train(
                x, y, workers=2, rounds=100, batch_size=1000, optimizer={"learning_rate": learning_rate},
                on_round=watch, store=store,
            )  # fmt: skip
        except Hopeless as e:
            print(f"  given up: {e}")
        else:
            best = watch.best
            print(f"  done: loss {run.metrics['loss']:.4f} on the validation rows")
