"""How a run went, from first to last: what reports are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from lambdaml_core.run.driver.following import Once
from lambdaml_core.run.records.attempts import newest_generation
from lambdaml_core.run.records.ranks import Payee, Place, Rank, read_errors, read_ranks, usd
from lambdaml_core.run.records.records import RunRecord, read_run
from lambdaml_core.run.spec import SPEC, Spec, get_all_json, reading, run_store
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.retry import FIRST_S

__all__ = [
    "CHARGES",
    "CLASSES",
    "PARTS",
    "PLACES",
    "WORKER_CHARGES",
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

CHARGES = (*CLASSES, "sent", "received")
"""What a storage may ask money for: requests by class, and bytes."""

WORKER_CHARGES = ("seconds", "launches", "log_bytes")
"""What a provider may ask money for."""

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
    """Columns of one length: the number of each round, its mean training loss, and the seconds from the beginning of
    the first round to its end.

    ``figures``: what else the optimizer says of its rounds, such as residuals, by name. ``used``: what rank 0 had used
    by the end of each round: bytes sent and received through ``channel`` and ``store``, and ``usd``; no columns where
    they were not told. None = not finite, or not told of that round.
    """

    round: list[int]
    loss: list[float | None]
    seconds: list[float]
    figures: dict[str, list[float | None]]
    used: dict[str, list[float | None]]


class Timeline(TypedDict):
    """What a worker did in slices of time: ``until`` is the end of each in seconds after the worker's start."""

    until: list[float]
    start: list[float]
    load: list[float]
    compute: list[float]
    communicate: list[float]
    wait: list[float]


class WorkerHistory(TypedDict):
    """One worker, all of its processes taken together; None for what it has not told yet.

    ``attempts``: its processes; ``successions`` of them took over when another's time was up, ``restarts`` when one was
    lost; ``seconds`` by purpose; ``channel`` and ``store``: requests by class, and bytes ``sent`` and ``received``;
    ``worker``: what it is charged for by the provider, by :data:`WORKER_CHARGES`; ``cost_usd``: of all of these. Told
    at its end alone: ``began_s``, unix time of its last process's start, and
    ``timeline`` of that process.
    """

    rank: int
    ended: bool
    error: str | None
    attempts: int
    successions: int
    restarts: int
    began_s: float | None
    seconds: dict[str, float] | None
    timeline: Timeline | None
    channel: dict[str, int] | None
    store: dict[str, int] | None
    worker: dict[str, float] | None
    cost_usd: float | None


class Cost(TypedDict):
    """What is owed for all workers to ``store`` or ``channel`` for one of :data:`CHARGES`, or to the provider for one
    of :data:`WORKER_CHARGES`: how many there were, and the price of one."""

    place: Payee
    charge: str
    count: float
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
    opened = open_storage(store, first_s=FIRST_S)
    try:
        with reading(run):
            return _history(record, run_store(opened, run))
    finally:
        opened.close()


def _history(record: RunRecord, store: FullStorage) -> RunHistory:
    spec = Spec.decode(bytes(store.get(SPEC)))
    once = Once()
    written = get_all_json(store, sorted(store.list("events/"))).values()
    events = [event for each in written if (event := once(each)) is not None]
    workers = _workers(store, spec)
    return RunHistory(
        record=record,
        job=dict(spec.job),
        rounds_planned=spec.rounds,
        looks=[_look(event) for event in events if event["event"] == "epoch"],
        rounds=rounds_of(event for event in events if event["event"] == "rounds"),
        workers=workers,
        costs=[cost for place in _PAYEES for cost in _costs(place, workers, spec.usd.get(place, {}))],
    )


def _look(event: Mapping[str, Any]) -> Look:
    return Look(
        round=event["round"],
        epoch=event["epoch"],
        seconds=event.get("seconds"),
        batch_loss=event["batch_loss"],
        figures=event.get("figures", {}),
    )


def rounds_of(events: Iterable[Mapping[str, Any]]) -> Rounds:
    """The columns of all ``rounds`` events of a run, which follow each other."""
    rounds = Rounds(round=[], loss=[], seconds=[], figures={}, used={})
    for event in events:
        before = len(rounds["round"])
        rounds["round"].extend(range(event["first"], event["first"] + len(event["loss"])))
        rounds["loss"].extend(event["loss"])
        rounds["seconds"].extend(event["seconds"])
        for table, told in ((rounds["figures"], event.get("figures", {})), (rounds["used"], event.get("used", {}))):
            for name in {**table, **told}:
                column = table.setdefault(name, [None] * before)
                column.extend(told.get(name, [None] * len(event["loss"])))
    return rounds


def _workers(store: FullStorage, spec: Spec) -> list[WorkerHistory]:
    generation = newest_generation(store)
    ranks = read_ranks(store, spec.workers, generation)
    errors = {} if all(rank.end for rank in ranks) else read_errors(store, generation)
    return [_worker(rank, errors.get(rank.rank), spec) for rank in ranks]


def _worker(rank: Rank, error: Mapping[str, Any] | None, spec: Spec) -> WorkerHistory:
    end, totals = rank.end or {}, rank.totals or {}
    return WorkerHistory(
        rank=rank.rank,
        ended=bool(end),
        error=None if end or error is None else error["message"],
        attempts=totals.get("attempts", 0),
        successions=totals.get("successions", 0),
        restarts=rank.restarts,
        began_s=end.get("began_s"),
        seconds=totals.get("seconds"),
        timeline=end.get("timeline"),
        channel=totals.get("channel"),
        store=totals.get("store"),
        worker=totals.get("worker"),
        cost_usd=usd(totals, spec.usd) if totals else None,
    )


_PAYEES: Mapping[Payee, Sequence[str]] = {**dict.fromkeys(PLACES, CHARGES), "worker": WORKER_CHARGES}


def _costs(place: Payee, workers: Sequence[WorkerHistory], prices: Mapping[str, float]) -> list[Cost]:
    told: list[Mapping[str, float]] = [counts for w in workers if (counts := w[place]) is not None]
    counts = {name: sum(each[name] for each in told) for name in _PAYEES[place]}
    each = {name: prices.get(name, 0.0) for name in _PAYEES[place]}
    return [
        Cost(place=place, charge=name, count=n, usd_each=each[name], usd=n * each[name]) for name, n in counts.items()
    ]
