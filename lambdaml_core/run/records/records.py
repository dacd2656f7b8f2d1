"""What a run leaves in its store: reading it, listing runs, and cleaning up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypedDict

from lambdaml_core.errors import KeyNotFound, RunError, RunNotFound, StorageError
from lambdaml_core.options import nearest
from lambdaml_core.run.records.ranks import Rank, read_ranks, usd
from lambdaml_core.run.records.status import State, read_state
from lambdaml_core.run.spec import PROGRESS, RESULT, SPEC, Spec, get_all_json, model_url, reading, run_store
from lambdaml_core.storage import FullStorage, StorageURL, check_key, open_storage
from lambdaml_core.storage.retry import FIRST_S

__all__ = ["RunRecord", "list_runs", "model_files", "read_run", "read_spec"]

_log = logging.getLogger("lambdaml")


class Seconds(TypedDict):
    """Wall-clock seconds. All but ``total`` are means over the workers, all processes of each taken together.

    ``total``: from the start of the driver to its end, or until the last that was heard; ``start``: from a process's
    start to its first round, without ``load``; ``load``: waiting for rows; ``compute`` and ``communicate``: in
    rounds and evaluations, without the ``wait`` for other ranks.
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
    """Requests by class. Of the gets, ``missed`` found nothing: polls of a channel that does not block."""

    put: int
    get: int
    delete: int
    list: int
    missed: int


class Checkpointed(TypedDict):
    """Checkpoints written, bytes of all workers, and seconds that training waited for them."""

    count: int
    bytes: int
    seconds: float


class RunRecord(TypedDict):
    """One run, as ``--json`` prints it; None where a figure has no meaning or is not there yet.

    ``status`` is ``running``, ``stalled`` (its driver is gone, and it needs one: ``stop_reason`` says for what),
    ``succeeded``, ``failed`` or ``cancelled``. ``generation`` counts the times that all workers were started together,
    from 0; ``attempts`` the processes of all workers; of these, ``successions`` took over when the time of another was
    up, and ``restarts`` took the place of one that was lost. What is counted is counted over all of them, of one that
    was killed up to its last sign of life.
    ``aggregators_reason`` says why so many ranks fold, where the job left that to the driver.
    ``loss``, ``accuracy``, ``auc`` and ``baseline_accuracy`` (of the commonest class) are of the validation rows;
    ``metrics`` has all figures of them that the model has. ``train_loss`` is the mean loss of all training rows without
    penalty. ``round_figures``: what else the optimizer has said of the last round, such as residuals. ``bytes`` and
    ``requests`` are those of the channel, all workers together.
    ``exact``: all processes had one fingerprint (library versions, processor features, threads), it was not the
    clock that ended the run, and workers did not go on without each other.
    """

    schema: int
    run: str
    status: str
    stop_reason: str | None
    model: str
    optimizer: str
    aggregators: int
    aggregators_reason: str | None
    store: str
    channel: str
    provider: str
    workers: int
    generation: int
    attempts: int
    successions: int
    restarts: int
    rounds: int
    epochs: float
    loss: float | None
    accuracy: float | None
    auc: float | None
    baseline_accuracy: float | None
    metrics: dict[str, float | None]
    round_figures: dict[str, float | None]
    train_loss: float | None
    seconds: Seconds
    bytes: Traffic
    requests: Requests
    checkpoints: Checkpointed
    cost_usd: float
    model_path: str | None
    model_sha256: str | None
    exact: bool
    created: str


def list_runs(store: str) -> list[RunRecord]:
    """Every run in the store of this URL, oldest first.

    Those of another version, and damaged ones, are left out, with a warning.
    """
    opened = open_storage(store, first_s=FIRST_S)
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
    opened = open_storage(store, first_s=FIRST_S)
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
    opened = open_storage(store, first_s=FIRST_S)
    try:
        with reading(run):
            read_spec(opened, run)  # there is such a run
            result = get_all_json(run_store(opened, run), [RESULT]).get(RESULT)
            if result is None:
                raise RunError(f"the run {run} has no model", hint="only a run that has succeeded has one")
            return {name: bytes(run_store(opened, run).get(f"model/{name}")) for name in result["files"]}
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


def read_spec(store: FullStorage, run: str) -> Spec:
    """The specification of a run.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        RunError: it is that of another version.
        ValueError and others: it is damaged, for :func:`~lambdaml_core.run.spec.reading` to tell.
    """
    try:
        check_key(f"runs/{run}/{SPEC}")
    except StorageError as e:
        raise RunNotFound(f"{run!r:.99} cannot be the name of a run", hint="lambdaml runs lists them") from e
    try:
        spec = Spec.decode(bytes(run_store(store, run).get(SPEC)))
    except KeyNotFound as e:
        raise RunNotFound(f"there is no run {run} in the store", hint=nearest(run, _names(store))) from e
    if spec.run != run:  # what is done for it would be done to another
        raise ValueError(f"{SPEC} is that of the run {spec.run}")
    return spec


def _record(store: FullStorage, url: str, run: str) -> RunRecord:
    spec = read_spec(store, run)
    state = read_state(run_store(store, run), spec)
    result = state.result
    progress = {} if result else get_all_json(run_store(store, run), [PROGRESS]).get(PROGRESS, {})
    stop_reason = result.get("stop_reason") or state.reason
    figures = result.get("figures", progress.get("figures", {}))
    files = result.get("files", {})
    ranks = read_ranks(run_store(store, run), spec.workers, state.generation)
    totals = [rank.totals for rank in ranks if rank.totals is not None]
    fingerprints = {json.dumps(f, sort_keys=True) for t in totals for f in t["fingerprints"]}
    moved = {name: sum(int(t["channel"][name]) for t in totals) for name in _MOVED}
    return RunRecord(
        schema=1,
        run=run,
        status=state.status,
        stop_reason=stop_reason,
        model=spec.model.name,
        optimizer=spec.optimizer.name,
        aggregators=spec.aggregators,
        aggregators_reason=spec.aggregators_reason,
        store=spec.store.url,
        channel=spec.channel.url,
        provider=spec.provider.name,
        workers=spec.workers,
        generation=state.generation,
        attempts=sum(t["attempts"] for t in totals),
        successions=sum(t["successions"] for t in totals),
        restarts=sum(rank.restarts for rank in ranks),
        rounds=result.get("rounds", progress.get("round", 0)),
        epochs=result.get("epochs", progress.get("epochs", 0.0)),
        loss=figures.get("loss"),
        accuracy=figures.get("accuracy"),
        auc=figures.get("auc"),
        baseline_accuracy=figures.get("baseline_accuracy"),
        metrics=figures,
        round_figures=result.get("round_figures", progress.get("round_figures", {})),
        train_loss=result.get("train_loss"),
        seconds=_seconds(spec, state, ranks),
        bytes=Traffic(sent=moved["sent"], received=moved["received"]),
        requests=Requests(
            put=moved["put"], get=moved["get"], delete=moved["delete"], list=moved["list"], missed=moved["missed"]
        ),
        checkpoints=_checkpoints(ranks),
        cost_usd=sum(usd(t, spec.usd) for t in totals),
        model_path=_model_path(url, run) if files else None,
        model_sha256=files.get("model.safetensors"),
        exact=len(fingerprints) <= 1 and stop_reason != "seconds" and not result.get("asynchronous", False),
        created=spec.created,
    )


_MOVED = ("put", "get", "delete", "list", "missed", "sent", "received")


def _seconds(spec: Spec, state: State, ranks: Sequence[Rank]) -> Seconds:
    told = [rank.totals["seconds"] for rank in ranks if rank.totals is not None]

    def mean(part: str) -> float:
        return sum(seconds[part] for seconds in told) / len(told) if told else 0.0

    created = datetime.fromisoformat(spec.created).timestamp()
    heard = max((rank.beat["time_s"] for rank in ranks if rank.beat is not None), default=created)
    return Seconds(
        total=state.end.get("seconds", max(0.0, heard - created)),
        start=mean("start"),
        load=mean("load"),
        compute=mean("compute"),
        communicate=mean("communicate"),
        wait=mean("wait"),
    )


def _checkpoints(ranks: Sequence[Rank]) -> Checkpointed:
    """All ranks write at the same moments: their parts are one checkpoint, and they wait side by side."""
    told = [rank.totals["checkpoints"] for rank in ranks if rank.totals is not None]
    return Checkpointed(
        count=int(max((t["count"] for t in told), default=0)),
        bytes=int(sum(t["bytes"] for t in told)),
        seconds=float(max((t["seconds"] for t in told), default=0.0)),
    )


def _model_path(url: str, run: str) -> str:
    """The directory of the model where the store is a directory, else its URL."""
    place = StorageURL.parse(model_url(url, run))
    return place.path if place.scheme == "file" else place.text()
