"""The specification of a run: what the driver writes once and every worker reads. JSON; its hash travels beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lambdaml_core.errors import OptionError, RunError
from lambdaml_core.options import option
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, StorageURL, build_storage, open_storage, storage_reference
from lambdaml_core.storage.base import SupportsList
from lambdaml_core.storage.layers import Counts, Prefix

SCHEMA = 5
ENTRY = "lambdaml_core.run.worker.worker:run_worker"
"""What a provider is told to run."""
PATIENCE = 3
"""Looks without improvement that end a run where the job names no other number."""

# The keys of a run, below its prefix; those of one generation and its workers are in records/attempts.py. A driver
# writes initial parameters, deployment, spec (then the run exists) and signs of life; rank 0 writes progress, events,
# model/... and, last of all, the result.
SPEC = "spec.json"
INITIAL = "initial.safetensors"
DEPLOYMENT = "deployment.json"
DRIVER = "driver.json"
PROGRESS = "progress.json"
RESULT = "result.json"
CODE = "code.zip"


def event_key(number: int) -> str:
    """The key of an event, counted from 0."""
    return f"events/{number:06d}.json"


def log_key(rank: int) -> str:
    """The key of the log of a worker of a run that has ended."""
    return f"logs/{rank}.txt"


@dataclass(frozen=True)
class Place:
    """A storage as it travels: its URL, with secrets as ``{env:NAME}``, and the plugin that serves it."""

    url: str
    reference: Reference

    @classmethod
    def of(cls, url: str, *, channel: bool = False) -> Place:
        """The place of a URL, as :func:`~lambdaml_core.storage.storage_reference`."""
        return cls(url, storage_reference(url, channel=channel))

    def open(self, counts: Counts | None = None, interrupt: Callable[[], None] | None = None) -> FullStorage:
        """Open it, as :func:`~lambdaml_core.storage.open_storage`."""
        return open_storage(self.url, self.reference, counts, interrupt)

    def lists(self) -> bool:
        """Whether its keys can be listed, whatever layers are around it; no I/O."""
        url, reference = StorageURL.parse(self.url), self.reference
        while reference.inner is not None:
            url, reference = url.inner(), reference.inner
        with contextlib.closing(build_storage(url.text(), reference)) as storage:
            return isinstance(storage, SupportsList)


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


@dataclass(frozen=True)
class Checkpointing:
    """The table ``[checkpoint]`` of a job: one is due by whichever comes first. A worker that is replaced goes on from
    the newest; results of collectives are kept until two newer checkpoints exist."""

    enabled: bool = option(True, help="without, a worker that is lost ends the run")
    rounds: int | None = option(1000, help="rounds from one to the next", minimum=1)
    seconds: float | None = option(30.0, help="time from one to the next", unit="s", above=0)
    retain_bytes: int | None = option(
        None,
        help="results that the channel keeps for replacements, at most; default: 64 MiB, or 8 messages if that is more",
        unit="bytes",
        minimum=1,
    )


@dataclass(frozen=True)
class Recovery:
    """The table ``[recovery]`` of a job."""

    deadline_s: float = option(
        60.0, help="least time without a sign of life of a worker, or an answer of a storage", unit="s", above=0
    )
    heartbeat_s: float | None = option(
        None, help="time between signs of life; default: 1 s on one machine, else 5 s", unit="s", above=0
    )
    longest_step_s: float = option(
        3600.0, help="a worker that takes longer for one local step hangs, and is replaced", unit="s", above=0
    )
    restarts: int = option(
        10, help="times in a row that a worker is started again without getting any further", minimum=0
    )
    successions: int = option(1000, help="times that a worker may hand over to a successor", minimum=0)


@dataclass(frozen=True)
class Limits:
    """The table ``[limits]`` of a job: a run that passes one is ended by its driver, and can be resumed."""

    cost_usd: float | None = option(
        None, help="what a run may cost, storage and workers, as far as its workers have told", unit="USD", above=0
    )
    seconds: float | None = option(
        None, help="how long it may take from the first launch on; anew where it is resumed", unit="s", above=0
    )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """All that a worker needs to know, with every plugin resolved.

    Attributes:
        created: UTC, ISO 8601.
        rounds: rounds of the optimizer to do, ``epochs`` and ``rounds`` of the job taken together.
        steps_per_round: mini-batches that each goes through.
        evaluate: rounds from one look at the validation rows to the next.
        stop: what may end the run before.
        checkpoint: nothing in it is None but what is not to make one due.
        recovery: nothing in it is None.
        class_weight: for each class number, what a row of it counts; None = 1 for every row.
        code: SHA-256 of the user's own files, which are in the store; None = there are none.
        initial: SHA-256 of the parameters to start from, which are in the store; None = the model's own.
        aggregators_reason: why so many, where the job left that to the driver.
        pattern: how one chunk of a collective moves.
        provider: who runs the workers, for a worker that starts its successor.
        scope: how far storage must reach for these workers to meet; where that is the network, so are they.
        data, data_prefix: where the partition is; an empty prefix is the top of that storage.
        data_checksum: of its manifest, and so of all its rows.
        usd: dollars of store and channel: per request, by class, and per byte ``sent`` and ``received``; and of a
            ``worker``: per ``seconds``, ``launches`` and ``log_bytes``.
        job: the job, for people.
    """

    run: str
    created: str
    seed: int
    workers: int
    batch_size: int
    rounds: int
    steps_per_round: int
    evaluate: int
    stop: Stop
    checkpoint: Checkpointing
    recovery: Recovery
    limits: Limits
    class_weight: tuple[float, ...] | None
    code: str | None
    initial: str | None
    aggregators: int
    aggregators_reason: str | None
    store: Place
    channel: Place
    model: Reference
    optimizer: Reference
    pattern: Reference
    provider: Reference
    scope: str
    data: Place
    data_prefix: str
    data_checksum: str
    usd: Mapping[str, Mapping[str, float]]
    job: Mapping[str, Any]

    def shape(self) -> dict[str, Any]:
        """What the event ``launched`` says of it."""
        names = ("workers", "rounds", "aggregators", "aggregators_reason")
        return {name: getattr(self, name) for name in names}

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
        for name in ("model", "optimizer", "pattern", "provider"):
            values[name] = Reference(**values[name])
        values["stop"] = Stop(**values["stop"])
        values["checkpoint"] = Checkpointing(**values["checkpoint"])
        values["recovery"] = Recovery(**values["recovery"])
        values["limits"] = Limits(**values["limits"])
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
