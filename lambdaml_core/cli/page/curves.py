"""The loss of runs against what it took: rounds, seconds, bytes and dollars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from lambdaml_core.run.records.history import RunHistory

Kind = Literal["validation", "training"]
"""Whose loss: that of the validation rows at each look, or that of the rows of each round, as the optimizer says it."""

Resource = Literal["channel", "store", "usd"]


class Mark(NamedTuple):
    """A point of a run's curve: its loss, and what the run had taken by then.

    Attributes:
        seconds: since the first round began.
        bytes: sent and received by all workers, through channel and store.
        channel: those of the channel alone: what the optimizer exchanges.
        cost_usd: dollars for the requests and bytes of both.

    Rank 0 tells what it has used by each round; all workers together are taken to have used the same share of what
    they use in all. Where it has not told (runs of older versions), that is the share of the rounds. None where it is
    not known, as before all workers have ended.
    """

    round: int
    loss: float | None
    seconds: float | None
    bytes: float | None
    channel: float | None
    cost_usd: float | None


def common_kind(histories: Sequence[RunHistory]) -> Kind:
    """The loss to compare by: that of the validation rows if every run that has told of any loss has looked at some."""
    told = [history for history in histories if _told(history, "training")]
    return "validation" if all(_told(history, "validation") for history in told) else "training"


def curve(history: RunHistory, kind: Kind) -> list[Mark]:
    """All points of a run, in order."""
    channel, store, usd = (_meter(history, resource) for resource in ("channel", "store", "usd"))
    return [
        Mark(round, loss, seconds, added(channel(round), store(round)), channel(round), usd(round))
        for round, seconds, loss in _losses(history, kind)
    ]


def first_at(marks: Sequence[Mark], loss: float) -> Mark | None:
    """The first point whose loss is as low as this."""
    return next((mark for mark in marks if mark.loss is not None and mark.loss <= loss), None)


def common_loss(curves: Sequence[Sequence[Mark]]) -> float | None:
    """The lowest loss that all runs got to, of those that have told any; None where there are not two of them."""
    lowest = [min(losses) for marks in curves if (losses := [m.loss for m in marks if m.loss is not None])]
    return max(lowest) if len(lowest) > 1 else None


def total(history: RunHistory, resource: Resource) -> float | None:
    """What all workers have used in all: bytes, or dollars; None until all have ended."""
    if not all(worker["ended"] for worker in history["workers"]):
        return None
    if resource == "usd":
        return history["record"]["cost_usd"]
    counts = [cost for cost in history["costs"] if cost["charge"] in ("sent", "received")]
    return sum(cost["count"] for cost in counts if cost["place"] == resource)


def added(a: float | None, b: float | None) -> float | None:
    """The sum of two numbers, where both are known."""
    return None if a is None or b is None else a + b


def _losses(history: RunHistory, kind: Kind) -> list[tuple[int, float | None, float | None]]:
    """Round, seconds and loss of each point."""
    if kind == "validation":
        return [(look["round"], look["seconds"], look["figures"].get("loss")) for look in history["looks"]]
    rounds = history["rounds"]
    return list(zip(rounds["round"], rounds["seconds"], rounds["loss"], strict=True))


def _told(history: RunHistory, kind: Kind) -> bool:
    return any(loss is not None for _, _, loss in _losses(history, kind))


def _meter(history: RunHistory, resource: Resource) -> Callable[[int], float | None]:
    """What all workers together had used by the end of a round."""
    whole, rounds = total(history, resource), history["record"]["rounds"]
    told, of_rank_0 = history["rounds"]["used"].get(resource, []), _of_rank_0(history, resource)

    def used(round: int) -> float | None:
        if whole is None or not rounds:
            return None
        at = told[round - 1] if round <= len(told) else None
        return whole * (round / rounds if at is None or not of_rank_0 else min(1.0, at / of_rank_0))

    return used


def _of_rank_0(history: RunHistory, resource: Resource) -> float | None:
    """What it has used in all."""
    worker = history["workers"][0]
    if resource == "usd":
        return worker["cost_usd"]
    counts = worker[resource]
    return None if counts is None else counts["sent"] + counts["received"]
