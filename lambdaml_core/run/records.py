"""What a run leaves in its store: reading it, listing runs, and cleaning up."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from lambdaml_core.errors import KeyNotFound, RunError, RunNotFound, StorageError
from lambdaml_core.options import nearest
from lambdaml_core.run.cleanup import remove_channel, remove_run
from lambdaml_core.run.spec import (
    DRIVER,
    END,
    PROGRESS,
    RESULT,
    SPEC,
    Spec,
    end_key,
    error_key,
    get_all_json,
    model_url,
    reading,
    run_store,
)
from lambdaml_core.storage import FullStorage, StorageURL, check_key, open_storage

__all__ = ["RunRecord", "clean", "list_runs", "model_files", "read_run"]

_log = logging.getLogger("lambdaml")
STALLED_S = 60.0  # without a sign of life from driver or workers


class Seconds(TypedDict):
    """Wall-clock seconds. All but ``total`` are means over the workers that reached their end.

    ``start``: from a worker's process start to its first round, without ``load``; ``load``: waiting for its rows;
    ``compute`` and ``communicate``: in rounds and evaluations, without the ``wait`` for other ranks.
    """

    total: float
    start: float
    load: float
    compute: float
    communicate: float
    wait: float


class Traffic(TypedDict):
    """Bytes of values moved."""

    sent: int
    received: int


class Requests(TypedDict):
    """Requests by class."""

    put: int
    get: int
    delete: int
    list: int


class RunRecord(TypedDict):
    """One run, as ``--json`` prints it; None where a figure has no meaning or is not there yet.

    ``status`` is ``running``, ``stalled`` (nothing heard for a minute), ``succeeded``, ``failed`` or ``cancelled``.
    ``loss``, ``accuracy``, ``auc`` and ``baseline_accuracy`` (of the commonest class) are of the validation rows;
    ``metrics`` has all figures of them that the model has. ``train_loss`` is the mean loss of all training rows without
    penalty. ``bytes`` and ``requests`` are those of the
    channel, all workers together.
    ``exact``: all workers had one fingerprint (library versions, processor features, threads), and it was not the clock
    that ended the run.
    """

    schema: int
    run: str
    status: str
    stop_reason: str | None
    model: str
    optimizer: str
    aggregators: int
    store: str
    channel: str
    provider: str
    workers: int
    rounds: int
    epochs: float
    loss: float | None
    accuracy: float | None
    auc: float | None
    baseline_accuracy: float | None
    metrics: dict[str, float | None]
    train_loss: float | None
    seconds: Seconds
    bytes: Traffic
    requests: Requests
    cost_usd: float
    model_path: str | None
    model_sha256: str | None
    exact: bool
    created: str


def list_runs(store: str) -> list[RunRecord]:
    """Every run in the store of this URL, oldest first.

    Those of another version, and damaged ones, are left out, with a warning.
    """
    opened = open_storage(store)
    try:
        return list(_records(opened, store))
    finally:
        opened.close()


def read_run(store: str, run: str) -> RunRecord:
    """One run of the store of this URL, whatever its state.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        RunError: its records are damaged, or those of another version.
    """
    opened = open_storage(store)
    try:
        with reading(run):
            return _record(opened, store, run)
    finally:
        opened.close()


def model_files(store: str, run: str) -> dict[str, bytes]:
    """The files of the model of a run, by name, for :func:`lambdaml_core.run.saved.decode`.

    Raises:
        RunNotFound: there is none of that name.
        RunError: it has no model, or its records are damaged, or those of another version.
    """
    opened = open_storage(store)
    try:
        with reading(run):
            _spec(opened, run)  # there is such a run
            result = get_all_json(run_store(opened, run), [RESULT]).get(RESULT)
            if result is None:
                raise RunError(f"the run {run} has no model", hint="only a run that has succeeded has one")
            return {name: bytes(run_store(opened, run).get(f"model/{name}")) for name in result["files"]}
    finally:
        opened.close()


def clean(store: str, run: str | None = None) -> list[str]:
    """Remove a run, or every run that has ended, from its store and its channel: no key is left. Returns the names.

    Raises:
        RunNotFound: there is none of that name.
        RunError: the run named is still going on, or its records are damaged, or those of another version.
    """
    opened = open_storage(store)
    try:
        removed = []
        for record in _records(opened, store) if run is None else [read_run(store, run)]:
            name, status = record["run"], record["status"]
            if status == "running" and run is not None:
                raise RunError(f"the run {run} is still going on", hint="interrupt it first")
            if status in ("running", "stalled") and run is None:
                continue
            remove_channel(_spec(opened, name).channel, name)
            remove_run(opened, name)
            removed.append(name)
        return removed
    finally:
        opened.close()


def _names(store: FullStorage) -> list[str]:
    """Every run that has a specification."""
    keys = (key.split("/") for key in store.list("runs/"))
    return [key[1] for key in keys if len(key) == 3 and key[2] == SPEC]


def _records(store: FullStorage, url: str) -> Iterator[RunRecord]:
    """The records of all runs that this version can read."""
    for run in _names(store):
        try:
            with reading(run):
                record = _record(store, url, run)
        except RunError as e:
            _log.warning("the run %s is left out: %s", run, e.message)
        else:
            yield record


def _spec(store: FullStorage, run: str) -> Spec:
    try:
        check_key(f"runs/{run}/{SPEC}")
    except StorageError as e:
        raise RunNotFound(f"{run!r:.99} cannot be the name of a run", hint="lambdaml runs lists them") from e
    try:
        return Spec.decode(bytes(run_store(store, run).get(SPEC)))
    except KeyNotFound as e:
        raise RunNotFound(f"there is no run {run} in the store", hint=nearest(run, _names(store))) from e


def _record(store: FullStorage, url: str, run: str) -> RunRecord:
    spec = _spec(store, run)
    ranks = range(spec.workers)
    keys = [END, RESULT, PROGRESS, DRIVER, *map(end_key, ranks), *map(error_key, ranks)]
    found = get_all_json(run_store(store, run), keys)
    end, result, progress = (found.get(key, {}) for key in (END, RESULT, PROGRESS))
    ends = [found[end_key(rank)] for rank in ranks if end_key(rank) in found]
    errors = [found[error_key(rank)] for rank in ranks if error_key(rank) in found]
    status = _status(found, errors)
    stop_reason = result.get("stop_reason") or end.get("stop_reason") or (errors[0]["message"] if errors else None)
    figures = result.get("figures", progress.get("figures", {}))
    files = result.get("files", {})
    return RunRecord(
        schema=1,
        run=run,
        status=status,
        stop_reason=stop_reason,
        model=spec.model.name,
        optimizer=spec.optimizer.name,
        aggregators=spec.aggregators,
        store=spec.store.url,
        channel=spec.channel.url,
        provider=spec.job["provider"]["name"],
        workers=spec.workers,
        rounds=result.get("rounds", progress.get("round", 0)),
        epochs=result.get("epochs", progress.get("epochs", 0.0)),
        loss=figures.get("loss"),
        accuracy=figures.get("accuracy"),
        auc=figures.get("auc"),
        baseline_accuracy=figures.get("baseline_accuracy"),
        metrics=figures,
        train_loss=result.get("train_loss"),
        seconds=_seconds(end.get("seconds", 0.0), ends),
        bytes=Traffic(sent=_sum(ends, "sent"), received=_sum(ends, "received")),
        requests=Requests(
            put=_sum(ends, "put"), get=_sum(ends, "get"), delete=_sum(ends, "delete"), list=_sum(ends, "list")
        ),
        cost_usd=_cost(spec, ends),
        model_path=_model_path(url, run) if files else None,
        model_sha256=files.get("model.safetensors"),
        exact=len({json.dumps(e["fingerprint"], sort_keys=True) for e in ends}) <= 1 and stop_reason != "seconds",
        created=spec.created,
    )


def _status(found: Mapping[str, Any], errors: Sequence[Any]) -> str:
    """What the driver wrote at the end; where it has not, or not yet, what the workers' records say."""
    if END in found:
        return str(found[END]["status"])
    if RESULT in found:
        return "succeeded"
    if errors:
        return "failed"
    heard = max((found[key]["time_s"] for key in (DRIVER, PROGRESS) if key in found), default=0.0)
    return "running" if time.time() - heard < STALLED_S else "stalled"


def _seconds(total: float, ends: Sequence[Mapping[str, Any]]) -> Seconds:
    def mean(part: str) -> float:
        return sum(e["seconds"][part] for e in ends) / len(ends) if ends else 0.0

    return Seconds(
        total=total,
        start=mean("start"),
        load=mean("load"),
        compute=mean("compute"),
        communicate=mean("communicate"),
        wait=mean("wait"),
    )


def _sum(ends: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(e["channel"][name]) for e in ends)


def _cost(spec: Spec, ends: Sequence[Mapping[str, Any]]) -> float:
    """Dollars for the requests of all workers, to store and channel."""
    requests = [(e[place], prices) for e in ends for place, prices in spec.usd.items()]
    return math.fsum(counts[name] * usd for counts, prices in requests for name, usd in prices.items())


def _model_path(url: str, run: str) -> str:
    """The directory of the model where the store is a directory, else its URL."""
    place = StorageURL.parse(model_url(url, run))
    return place.path if place.scheme == "file" else place.text()
