"""What must be true of an asynchronous run that has ended, by the slots in its channel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load
from workers_help import RUN, Run

from lambdaml_core.comm.exchange import FOREVER, SlotExchange
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.spec import run_channel

GA: dict[str, Any] = {"name": "ga_sgd", "learning_rate": 0.3, "schedule": "constant", "asynchronous": True}
MA: dict[str, Any] = {
    "name": "ma_sgd",
    "learning_rate": 0.1,
    "local_steps": 3,
    "schedule": "constant",
    "asynchronous": True,
}


def last_slots(run: Run, features: int = 30) -> tuple[list[int], NDArray[np.float64]]:
    """Everybody's last clocks, and the sum of what all ranks have contributed."""
    with contextlib.closing(run.spec.channel.open()) as channel:
        exchange = SlotExchange(
            run_channel(channel, RUN), rank=0, size=run.spec.workers, generation=0, restored=True, deadline_s=10
        )
        shapes = {"sum": features + 1, "totals": 2, "(stop)": 5, "(staleness)": 3}
        x = {name: np.zeros(shape) for name, shape in shapes.items()}
        exchange.resume(x)
        clocks = exchange.merge(x, min_clock=FOREVER)
        return list(clocks), x["sum"]


def check_slots(run: Run) -> Mapping[str, Any]:
    """The model is the start, which is zeros, and all contributions; each clock is one update. Returns the result."""
    result = run.result()
    params = load(bytes(run.store.get(f"model/{WEIGHTS}")))["params"]
    clocks, total = last_slots(run)
    np.testing.assert_array_equal(params, total.astype(np.float32))
    updates = run.spec.rounds * run.spec.workers if result["stop_reason"] == "rounds" else 0
    assert result["round_figures"]["updates"] == sum(clocks) >= updates
    assert result["rounds"] == sum(clocks) // run.spec.workers
    told = [r for e in run.events("rounds") for r in range(e["first"], e["first"] + len(e["loss"]))]
    assert told == list(range(1, result["rounds"] + 1))
    assert run.read("errors/") == {}
    return result
