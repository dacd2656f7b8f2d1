"""What asynchronous optimizers have in common: what a rank contributes adds up in its slot, and nobody waits for all.

The parameters are those of the start and the sum of everybody's contributions. A rank computes from the parameters that
it has seen last, adds what comes of it to its own contribution, publishes that, and merges the latest of the others: as
all of it is cumulative, no update is lost and none counts twice, however late it is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.base import Exchange
from lambdaml_core.errors import RunError
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.optim.sgd import mean_loss


@runtime_checkable
class SupportsExchange(Protocol):
    """An optimizer that can do without collectives in its rounds: those of :class:`Worker` with an ``exchange``.

    In ``start``, which all ranks call together, collectives come first; then it calls ``Exchange.resume``, which finds
    where an earlier process of this rank was, and ``merge``. Each round publishes once, with the clock ``w.round + 1``,
    and merges then. Of its state nothing outlives a process but what it publishes; its figures are this rank's own.
    """

    @property
    def asynchronous(self) -> bool:
        """Whether it wants an exchange; False = its rounds are collective."""


def start(w: Worker, params: NDArray[Any]) -> State:
    """The state before the first round of this process: where all have come to.

    ``shared`` has ``start``, the parameters at the beginning of the run, and ``rows`` of all ranks. ``private`` has
    ``sum``, this rank's contribution; ``totals``, the sum of the losses and the count of the rows that it went through;
    ``seen``, those of all ranks at the last merge; and ``clock``, the mean clock of all ranks then. All but ``params``
    and ``start`` are float64: contributions of ranks with different rows grow while their sum does not.
    """
    assert w.exchange is not None  # noqa: S101  (who calls this has looked)
    rows = np.array([w.data.rows], np.float64)
    w.comm.all_reduce({"rows": rows})
    private = {name: np.zeros(shape) for name, shape in (("totals", 2), ("seen", 2), ("clock", 1))}
    s = State(params, {"start": params.copy(), "rows": rows}, {"sum": np.zeros(params.shape), **private})
    w.exchange.resume(_slot(s))
    merge(w, s, min_clock=0)
    return s


def share_of(w: Worker, s: State, steps: int) -> float:
    """What a sum over rows is multiplied by to be this rank's part of the mean over a round of all ranks.

    A round of all goes through ``steps`` mini-batches, of which each has the rows of all over ``steps_per_epoch``: so
    if all ranks are in step, their parts add up to the mean.
    """
    return float(w.data.steps_per_epoch / (steps * s.shared["rows"][0]))


def exchange(w: Worker, s: State, loss: float, rows: int, staleness: int | None) -> Mapping[str, float]:
    """Publish this rank's contribution, to which the round's has been added, and take over those of all.

    Args:
        loss, rows: the sum of losses and the count of rows of this round.
        staleness: clocks that this rank may be ahead of any other; None = any number.

    Returns:
        ``loss``, the mean over the rows that all ranks went through since the last merge, each before its step; and
        ``staleness``, how many clocks others are behind this rank, on average, and ``staleness_max``, at most
        (:func:`clocks_behind`).

    Raises:
        RunError: the loss is not finite.
    """
    assert w.exchange is not None  # noqa: S101
    clock = w.round + 1
    s.private["totals"] += loss, rows
    seen = s.private["seen"].copy()
    w.exchange.publish(_slot(s), clock=clock)
    clocks = merge(w, s, min_clock=0 if staleness is None else max(0, clock - staleness))
    if not np.isfinite(s.params).all():
        raise RunError(
            f"training diverged: the parameters after round {clock} are not finite",
            hint="lower optimizer.learning_rate, or scale the features",
        )
    behind = clocks_behind(w.exchange, w.rank, clocks)
    return {
        "loss": mean_loss(s.private["seen"] - seen, w.round),
        "staleness": sum(behind) / len(behind),
        "staleness_max": float(max(behind)),
    }


def clocks_behind(exchange: Exchange, rank: int, clocks: Sequence[int]) -> Sequence[int]:
    """How many clocks each other rank is behind this one; one that has finished stands still, and is behind nobody."""
    others = [other for other in range(len(clocks)) if other != rank and other not in exchange.finished]
    return [max(0, clocks[rank] - clocks[other]) for other in others] or [0]


def merge(w: Worker, s: State, *, min_clock: int) -> Sequence[int]:
    """Make the parameters those of the start and all contributions. Returns everybody's clocks."""
    assert w.exchange is not None  # noqa: S101
    everything = {"sum": w.scratch("sum", s.params.shape, np.float64), "totals": s.private["seen"]}
    clocks = w.exchange.merge(everything, min_clock=min_clock)
    s.private["clock"][0] = sum(clocks) / w.size
    with np.errstate(over="ignore", invalid="ignore"):  # the loss tells
        np.add(everything["sum"], s.shared["start"], out=everything["sum"])
        s.params[...] = everything["sum"]
    return clocks


def _slot(s: State) -> dict[str, NDArray[Any]]:
    """What this rank publishes."""
    return {name: s.private[name] for name in ("sum", "totals")}
