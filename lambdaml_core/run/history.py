"""How a run went, from first to last: what reports are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from lambdaml_core.run.records import RunRecord, read_run
from lambdaml_core.run.spec import PROGRESS, SPEC, Spec, end_key, error_key, get_all_json, reading, run_store
from lambdaml_core.storage import FullStorage, open_storage

__all__ = [
    "CLASSES",
    "PARTS",
    "PLACES",
    "Cost",
    "Look",
    "Place",
    "Rounds",
    "RunHistory",
    "WorkerHistory",
    "read_history",
]

Part = Literal["start", "load", "compute", "communicate", "wait"]
PARTS: tuple[Part, ...] = ("start", "load", "compute", "communicate", "wait")
"""The purposes that a worker's time is divided by."""

CLASSES = ("put", "get", "delete", "list")
"""The classes of requests."""


Place = Literal["store", "channel"]
PLACES: tuple[Place, ...] = ("store", "channel")


class Look(TypedDict):
    """A look at the validation rows.

    ``seconds`` since the first round began, None if unknown; ``batch_loss``: mean training loss of that round;
    ``figures``: the model's, by name, None where one has no meaning; empty where there are no validation rows.
    """

    round: int
    epoch: float
    seconds: float | None
    batch_loss: float | None
    figures: dict[str, float | None]


class Rounds(TypedDict):
    """Three columns of one length: the number of each round, its mean training loss (None = not finite), and the
    seconds from the beginning of the first round to its end."""

    round: list[int]
    loss: list[float | None]
    seconds: list[float]


class Timeline(TypedDict):
    """What a worker did in slices of time: ``until`` is the end of each in seconds after the worker's start."""

    until: list[float]
    start: list[float]
    load: list[float]
    compute: list[float]
    communicate: list[float]
    wait: list[float]


class WorkerHistory(TypedDict):
    """One worker. What only a worker that has reached its end can tell is None before.

    ``seconds`` by purpose (of worker 0 while it goes on, too); ``began_s``: unix time of its start; ``channel`` and
    ``store``: requests by class, and bytes ``sent`` and ``received``; ``cost_usd``: of these requests.
    """

    rank: int
    ended: bool
    error: str | None
    began_s: float | None
    seconds: dict[str, float] | None
    timeline: Timeline | None
    channel: dict[str, int] | None
    store: dict[str, int] | None
    cost_usd: float | None


class Cost(TypedDict):
    """Requests of one class to one place, ``store`` or ``channel``, by all workers that have ended."""

    place: Place
    requests_class: str
    requests: int
    usd_each: float
    usd: float


class RunHistory(TypedDict):
    """A run and all that it has told of its way; ``rounds_planned`` is the most that it may do."""

    record: RunRecord
    job: dict[str, Any]
    rounds_planned: int
    looks: list[Look]
    rounds: Rounds
    workers: list[WorkerHistory]
    costs: list[Cost]


def read_history(store: str, run: str) -> RunHistory:
    """The history of a run in the store of this URL, whatever its state.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        RunError: its records are damaged, or those of another version.
    """
    record = read_run(store, run)
    opened = open_storage(store)
    try:
        with reading(run):
            return _history(record, run_store(opened, run))
    finally:
        opened.close()


def _history(record: RunRecord, store: FullStorage) -> RunHistory:
    spec = Spec.decode(bytes(store.get(SPEC)))
    events = get_all_json(store, sorted(store.list("events/"))).values()
    workers = _workers(store, spec)
    return RunHistory(
        record=record,
        job=dict(spec.job),
        rounds_planned=spec.rounds,
        looks=[_look(event) for event in events if event["event"] == "epoch"],
        rounds=_rounds(event for event in events if event["event"] == "rounds"),
        workers=workers,
        costs=[cost for place in PLACES for cost in _costs(place, workers, spec.usd.get(place, {}))],
    )


def _look(event: Mapping[str, Any]) -> Look:
    return Look(
        round=event["round"],
        epoch=event["epoch"],
        seconds=event.get("seconds"),
        batch_loss=event["batch_loss"],
        figures=event.get("figures", {}),
    )


def _rounds(events: Iterable[Mapping[str, Any]]) -> Rounds:
    rounds = Rounds(round=[], loss=[], seconds=[])
    for event in events:
        rounds["round"].extend(range(event["first"], event["first"] + len(event["loss"])))
        rounds["loss"].extend(event["loss"])
        rounds["seconds"].extend(event["seconds"])
    return rounds


def _workers(store: FullStorage, spec: Spec) -> list[WorkerHistory]:
    ranks = range(spec.workers)
    found = get_all_json(store, [PROGRESS, *map(end_key, ranks), *map(error_key, ranks)])
    workers = [_worker(rank, found.get(end_key(rank), {}), found.get(error_key(rank)), spec) for rank in ranks]
    if workers[0]["seconds"] is None:  # it has not ended, but it tells while it goes on
        workers[0]["seconds"] = found.get(PROGRESS, {}).get("seconds")
    return workers


def _worker(rank: int, end: Mapping[str, Any], error: Mapping[str, Any] | None, spec: Spec) -> WorkerHistory:
    return WorkerHistory(
        rank=rank,
        ended=bool(end),
        error=None if error is None else error["message"],
        began_s=end.get("began_s"),
        seconds=end.get("seconds"),
        timeline=end.get("timeline"),
        channel=end.get("channel"),
        store=end.get("store"),
        cost_usd=_usd(end, spec) if end else None,
    )


def _usd(end: Mapping[str, Any], spec: Spec) -> float:
    return math.fsum(end[place][name] * usd for place, prices in spec.usd.items() for name, usd in prices.items())


def _costs(place: Place, workers: Sequence[WorkerHistory], prices: Mapping[str, float]) -> list[Cost]:
    ends = [counts for w in workers if (counts := w[place]) is not None]
    counts = {name: sum(end[name] for end in ends) for name in CLASSES}
    each = {name: prices.get(name, 0.0) for name in CLASSES}
    return [
        Cost(place=place, requests_class=name, requests=n, usd_each=each[name], usd=n * each[name])
        for name, n in counts.items()
    ]
