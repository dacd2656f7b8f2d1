"""The specification of a run: what the driver writes once and every worker reads. JSON; its hash travels beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lambdaml_core.errors import OptionError, RunError
from lambdaml_core.options import option
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, StorageURL, open_storage, storage_reference
from lambdaml_core.storage.layers import Prefix

SCHEMA = 2
ENTRY = "lambdaml_core.run.worker:run_worker"
"""What a provider is told to run."""
PATIENCE = 3
"""Looks without improvement that end a run where the job names no other number."""

# The keys of a run, below its prefix. The driver writes initial parameters, spec, signs of life and end; rank 0 writes
# progress, events, model/... and, last of all, the result; every worker attempts/<generation>/<rank>/<n>, ends/<rank>,
# errors/<rank>.
SPEC = "spec.json"
INITIAL = "initial.safetensors"
PROGRESS = "progress.json"
RESULT = "result.json"
END = "end.json"
DRIVER = "driver.json"


def event_key(number: int) -> str:
    """The key of an event, counted from 0."""
    return f"events/{number:06d}.json"


def end_key(rank: int) -> str:
    """The key of what a worker says when it ends well."""
    return f"ends/{rank}.json"


def error_key(rank: int) -> str:
    """The key of what a worker says when it ends with an error."""
    return f"errors/{rank}.json"


def log_key(rank: int) -> str:
    """The key of the log of a worker of a failed run."""
    return f"logs/{rank}.txt"


@dataclass(frozen=True)
class Place:
    """A storage as it travels: its URL, with secrets as ``{env:NAME}``, and the plugin that serves it."""

    url: str
    reference: Reference

    @classmethod
    def of(cls, url: str) -> Place:
        """The place of a URL; raises as :func:`~lambdaml_core.storage.storage_reference`."""
        return cls(url, storage_reference(url))

    def open(self) -> FullStorage:
        """Open it; no I/O happens until it is used."""
        return open_storage(self.url, self.reference)


@dataclass(frozen=True)
class Stop:
    """The table ``[stop]`` of a job. The loss is that of the validation rows; where there are none, the mean over the
    rounds since the last look of the training loss, each round counting the same."""

    loss: float | None = option(None, help="end once the loss is at most this")
    improvement: float | None = option(
        None, help="end once the loss has not fallen by more than this share of its best for patience looks", minimum=0
    )
    patience: int | None = option(None, help=f"looks in a row without that improvement; default {PATIENCE}", minimum=1)
    seconds: float | None = option(None, help="end after so long, counted from the first round", unit="s", above=0)

    def __post_init__(self) -> None:
        if self.patience is not None and self.improvement is None:
            raise OptionError("stop.patience needs stop.improvement", hint="such as improvement = 0.001")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All that a worker needs to know, with every plugin resolved.

    Attributes:
        generation: rises by one whenever the run is resumed; part of every key of the channel.
        created: UTC, ISO 8601.
        rounds: rounds of the optimizer to do, ``epochs`` and ``rounds`` of the job taken together.
        steps_per_round: mini-batches that each goes through.
        evaluate: rounds from one look at the validation rows to the next.
        stop: what may end the run before.
        class_weight: for each class number, what a row of it counts; None = 1 for every row.
        initial: SHA-256 of the parameters to start from, which are in the store; None = the model's own.
        pattern: how one chunk of a collective moves.
        data, data_prefix: where the partition is; an empty prefix is the top of that storage.
        data_checksum: of its manifest, and so of all its rows.
        usd: dollars per request of store and channel, by class.
        job: the job, for people.
    """

    run: str
    generation: int
    created: str
    seed: int
    workers: int
    batch_size: int
    rounds: int
    steps_per_round: int
    evaluate: int
    stop: Stop
    class_weight: tuple[float, ...] | None
    initial: str | None
    aggregators: int
    store: Place
    channel: Place
    model: Reference
    optimizer: Reference
    pattern: Reference
    data: Place
    data_prefix: str
    data_checksum: str
    usd: Mapping[str, Mapping[str, float]]
    job: Mapping[str, Any]

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({"schema": SCHEMA} | asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Spec:
        """Back from JSON.

        Raises:
            RunError: written by another version.
            ValueError and others: damaged, for :func:`reading` to tell.
        """
        values = _object(data, SPEC)
        if values.pop("schema", None) != SCHEMA:
            raise RunError("this run was made by another version of lambdaml", hint="use that version")
        for name in ("store", "channel", "data"):
            values[name] = Place(values[name]["url"], Reference(**values[name]["reference"]))
        for name in ("model", "optimizer", "pattern"):
            values[name] = Reference(**values[name])
        values["stop"] = Stop(**values["stop"])
        values["class_weight"] = values["class_weight"] and tuple(values["class_weight"])
        return cls(**values)


def sha256(data: bytes) -> str:
    """The hash of a specification, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def reading(run: str) -> Iterator[None]:
    """What a run has left in its store is read here: what cannot be understood is said to be damaged.

    Raises:
        RunError: it is no JSON, or not of the form that it was written in.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OptionError) as e:
        raise RunError(
            f"the records of the run {run} are damaged: {type(e).__name__}: {e}",
            hint=f"remove runs/{run} from its store",
        ) from e


def run_store(store: FullStorage, run: str) -> Prefix:
    """The part of a store that is this run's."""
    return Prefix(store, f"runs/{run}")


def model_url(store: str, run: str) -> str:
    """The URL of a run's model, by the URL of its store."""
    place = StorageURL.parse(store)
    return replace(place, path=f"{place.path.rstrip('/')}/runs/{run}/model").text()


def run_channel(channel: FullStorage, run: str) -> Prefix:
    """The part of a channel that is this run's; another one than in the store, since one storage may be both."""
    return Prefix(channel, f"channels/{run}")


def put_json(store: FullStorage, key: str, value: Mapping[str, Any], *, if_absent: bool = False) -> bool:
    """Store JSON; NaN and infinity are for the caller to replace. Returns whether it was stored."""
    return store.put(key, [json.dumps(value, allow_nan=False).encode()], if_absent=if_absent)


def get_json(store: FullStorage, key: str) -> dict[str, Any]:
    """Read JSON.

    Raises:
        KeyNotFound: nothing is there.
    """
    value: dict[str, Any] = json.loads(bytes(store.get(key)))
    return value


def get_all_json(store: FullStorage, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of these JSON objects that are there, in the order of the keys.

    Raises:
        ValueError: one is no JSON object; for :func:`reading` to tell.
    """
    found = store.get_many(keys)
    return {key: _object(bytes(found[key]), key) for key in keys if key in found}


def _object(data: bytes, key: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{key} is no JSON: {e}") from e
    if not isinstance(value, dict):
        raise ValueError(f"{key} is no JSON object")
    return value
