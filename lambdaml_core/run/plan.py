"""The plan: a job held against what its plugins can do, with numbers, before anything is started."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import DataError, JobError, NotSupported, StorageFull
from lambdaml_core.provider.base import Provider
from lambdaml_core.registry import default_registry
from lambdaml_core.run.cleanup import scratch_name
from lambdaml_core.run.job import Job
from lambdaml_core.run.spec import ENTRY, Place
from lambdaml_core.run.training import keyed_generator
from lambdaml_core.specs import ModelSpec, Target
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Storage, StorageCaps, SupportsList

_REACH = {"process": 0, "host": 1, "network": 2}
_LEAST_VALUE_BYTES = 128 << 10  # messages are cut to fit, but not into crumbs
_ROOM_FACTOR = 3  # messages of a collective, those of the next one, and as much again to spare
_LEAST_ROOM = 64 << 20
_TMPFS = Path("/dev/shm")  # noqa: S108  (a directory of this user's own is made in it)
_log = logging.getLogger("lambdaml")


@dataclass(frozen=True)
class Plan:
    """What is known to work before any row has been read.

    Attributes:
        scope: how far storage must reach for the workers to meet.
        provider_plan: what the provider would make.
        channel: None = to be chosen once the size of a message is known.
        usd: dollars per request of store and channel, by class.
        target: what the model learns to tell.
    """

    job: Job
    provider: Provider
    provider_plan: dict[str, Any]
    scope: str
    store: Place
    channel: Place | None
    usd: dict[str, dict[str, float]]
    target: Target


def make_plan(job: Job) -> Plan:
    """Check what can be checked without reading data or making a remote call.

    Raises:
        NotSupported: a storage cannot be what it is meant to be here; message and hint say why and what instead.
        URLError, PluginError: as :func:`~lambdaml_core.storage.open_storage`.
    """
    provider: Provider = job.provider.build()
    provider_plan = dict(provider.plan(job.to_mapping() | {"entry": ENTRY}))
    scope = str(provider_plan.get("scope", "network"))
    store, store_caps = _check_store(job, scope)
    channel, channel_caps = None, None
    if job.channel is not None:
        channel, channel_caps = _check_channel(job.channel, job, scope)
    elif scope == "network":
        channel, channel_caps = _check_channel(job.store, job, scope)
    usd = {"store": dict(store_caps.usd), "channel": dict(channel_caps.usd) if channel_caps else {}}
    target = cast(ModelSpec, default_registry().find("model", job.model.name)).target
    return Plan(job, provider, provider_plan, scope, store, channel, usd, target)


def _check_store(job: Job, scope: str) -> tuple[Place, StorageCaps]:
    place, storage = _look_at(job.store)
    caps = storage.caps
    name = f"the store {StorageURL.parse(job.store)}"
    if not isinstance(storage, SupportsList):
        raise NotSupported(f"{name} cannot list its keys", hint="use it as channel, and file:// or s3:// as store")
    if not caps.durable and scope != "process":
        raise NotSupported(f"{name} is not durable", hint="use it as channel, and file:// or s3:// as store")
    _check_reach(name, caps, job, scope)
    return place, caps


def _check_channel(url: str, job: Job, scope: str) -> tuple[Place, StorageCaps]:
    place, storage = _look_at(url)
    caps = storage.caps
    name = f"the channel {StorageURL.parse(url)}"
    if not caps.creates_once:
        raise NotSupported(f"{name} cannot create a value exactly once", hint="choose another channel")
    if caps.max_value_bytes is not None and caps.max_value_bytes < _LEAST_VALUE_BYTES:
        raise NotSupported(
            f"{name} takes values up to {caps.max_value_bytes} bytes, and messages need {_LEAST_VALUE_BYTES}",
            hint="choose another channel",
        )
    _check_reach(name, caps, job, scope)
    return place, caps


def _check_reach(name: str, caps: StorageCaps, job: Job, scope: str) -> None:
    if _REACH[caps.scope] < _REACH[scope]:
        raise NotSupported(
            f"{name} reaches no further than one {caps.scope}, and workers of {job.provider.name} do not share one",
            hint={"host": "use file://, or provider = inline"}.get(
                scope, "use a storage on the network, such as s3://"
            ),
        )


def _look_at(url: str) -> tuple[Place, Storage]:
    """The place, and its storage as its author wrote it; no I/O."""
    place = Place.of(url)
    return place, place.reference.build(StorageURL.parse(url).resolved())


# --- once the data are known --------------------------------------------------------------------------------


def check_data(plan: Plan, manifest: Manifest) -> int:
    """Check the job against the partition it is to use. Returns the bytes of one message.

    Raises:
        DataError: fewer rows than workers, or other features than the job says.
        JobError: model and data do not go together.
    """
    job = plan.job
    if (plan.target == "class") != bool(manifest.classes):
        has, learns = ("numbers to learn", "classes") if plan.target == "class" else ("classes", "numbers")
        raise JobError(
            f"the partition has {has}, and {job.model.name} learns {learns}",
            hint=f"choose another model, or partition the source again with target {plan.target}",
        )
    if manifest.rows < job.workers:
        raise DataError(
            f"{manifest.rows} rows to train on are fewer than {job.workers} workers",
            hint=f"use at most {manifest.rows} workers" if manifest.rows else "give data",
        )
    if job.data.features not in (None, manifest.features):
        raise DataError(
            f"the data has {manifest.features} features, and data.features says {job.data.features}",
            hint="change data.features, or partition the source again",
        )
    model = job.model.build()
    try:
        params = model.init(_Shape(manifest), keyed_generator(job.seed, 0, 0, "init"))
    except _NoRowsHere:  # a model that starts from rows: a guess that is right for linear ones
        return 4 * (manifest.features + 1) * max(1, manifest.classes)
    return int(params.nbytes)


class _NoRowsHere(Exception):
    """A model asked for rows where there are only numbers of rows and columns."""


class _Shape:
    """Data as far as a driver knows them: what a model's ``init`` may look at in most cases."""

    steps_per_epoch = 1

    def __init__(self, manifest: Manifest) -> None:
        self.rows, self.features, self.classes = manifest.rows, manifest.features, manifest.classes

    def batch(self, step: int) -> Batch:
        raise _NoRowsHere

    def blocks(self) -> Iterator[Batch]:
        raise _NoRowsHere


# --- the default channel -------------------------------------------------------------------------------------


def default_channel(plan: Plan, run: str, message_bytes: int) -> Place:
    """The channel of a run that names none and whose workers are on one machine.

    Threads exchange through memory. Processes get a directory of their own on tmpfs, which is shared memory, or on
    disk where that has no room.
    """
    if plan.scope == "process":
        return Place.of(f"memory://{run}")
    return Place.of(local_channel(run, plan.job.workers, message_bytes))


def local_channel(name: str, workers: int, message_bytes: int) -> str:
    """URL of a fresh directory for messages between processes of this machine: on tmpfs, or else on disk.

    Raises:
        StorageFull: neither has room.
    """
    room = _LEAST_ROOM + _ROOM_FACTOR * (workers + 1) * message_bytes
    base = _TMPFS
    reason = _lack(base, room) if _is_tmpfs(base) else "it is no tmpfs"
    if reason is not None:
        base = Path(tempfile.gettempdir())
        _log.warning("messages go through %s, which is slower than %s: %s", base, _TMPFS, reason)
        if (lack := _lack(base, room)) is not None:
            raise StorageFull(f"no room for messages in {base}: {lack}", hint="make room, or give channel in the job")
    folder = _own_directory(base / scratch_name()) / name
    folder.mkdir(mode=0o700)
    return StorageURL("file", path=str(folder)).text()


def _lack(base: Path, room: int) -> str | None:
    """What is missing where less than ``room`` bytes are free."""
    usage = os.statvfs(base)
    free = usage.f_bavail * usage.f_frsize
    return f"{free >> 20} MiB are free, and {room >> 20} MiB may be needed" if free < room else None


def _is_tmpfs(path: Path) -> bool:
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[1:3] == [str(path), "tmpfs"] for line in mounts)


def _own_directory(path: Path) -> Path:
    """A directory that nobody else can look into or has made.

    Raises:
        JobError: somebody else has.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise JobError(f"{path} belongs to somebody else or is open to others", hint="give channel in the job")
    return path
