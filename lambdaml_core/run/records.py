"""What a run leaves in its store: reading it, listing runs, and cleaning up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from lambdaml_core.errors import KeyNotFound, RunError, RunNotFound
from lambdaml_core.options import nearest
from lambdaml_core.storage import FullStorage, check_key, open_storage
from lambdaml_core.storage.layers import Prefix
from lambdaml_core.storage.url import StorageURL

__all__ = ["RunRecord", "clean", "list_runs", "read_run"]


class Seconds(TypedDict):
    """Wall-clock seconds. All but ``total`` are means over the workers that reached their end.

    ``start``: from a worker's process start to its first round, without ``load``; ``load``: reading its rows;
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

    ``status`` is ``running``, ``succeeded``, ``failed`` or ``cancelled``. ``loss``, ``accuracy``, ``auc`` and
    ``baseline_accuracy`` (of the commonest class) are of the validation rows; ``train_loss`` is the mean loss of all
    training rows without penalty. ``bytes`` and ``requests`` are those of the channel, all workers together.
    ``exact``: all workers had one fingerprint (library versions, processor features, threads).
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
    """Every run in the store of this URL, oldest first."""
    raise NotImplementedError


def read_run(store: str, run: str) -> RunRecord:
    """One run of the store of this URL, whatever its state.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
    """
    raise NotImplementedError


def clean(store: str, run: str | None = None) -> list[str]:
    """Remove a run, or every run that has ended, from its store and its channel: no key is left. Returns the names.

    Raises:
        RunNotFound: there is none of that name.
        RunError: the run named is still going on.
    """
    raise NotImplementedError
