"""The plan: a job held against what its plugins can do, with numbers, before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import DataError, JobError
from lambdaml_core.optim.base import check_needs
from lambdaml_core.provider.base import Provider
from lambdaml_core.registry import default_registry
from lambdaml_core.run.driver.needs import job_for_provider
from lambdaml_core.run.driver.places import check_channel, check_store
from lambdaml_core.run.driver.scratch import local_channel, retain_bytes
from lambdaml_core.run.job import Job
from lambdaml_core.run.modelfile import NoRowsHere, Shape
from lambdaml_core.run.spec import Place
from lambdaml_core.run.worker.training import keyed_generator
from lambdaml_core.specs import ModelSpec, Target

_WORKER_USD = {"seconds": "usd_per_worker_s", "launches": "usd_per_launch", "log_bytes": "usd_per_log_byte"}
_HEARTBEAT_S = {"process": 1.0, "host": 1.0, "network": 5.0}


@dataclass(frozen=True)
class Plan:
    """What is known to work before any row has been read.

    Attributes:
        scope: how far storage must reach for the workers to meet.
        heartbeat_s: seconds between a worker's signs of life.
        provider_plan: what the provider would make.
        channel: None = to be chosen once the size of a message is known.
        usd: as of a specification.
        target: what the model learns to tell.
    """

    job: Job
    provider: Provider
    provider_plan: dict[str, Any]
    scope: str
    heartbeat_s: float
    store: Place
    channel: Place | None
    usd: dict[str, dict[str, float]]
    target: Target

    @property
    def usd_per_worker_s(self) -> float:
        """Dollars of one worker for a second."""
        return self.usd["worker"]["seconds"]


def make_plan(job: Job) -> Plan:
    """Check what can be checked without reading data or making a remote call.

    Raises:
        NotSupported: a storage cannot be what it is meant to be here; message and hint say why and what instead.
            The optimizer needs what the model does not have.
        URLError, PluginError: as :func:`~lambdaml_core.storage.open_storage`.
    """
    check_needs(job.optimizer.build(), job.model.build(), (job.optimizer.name, job.model.name))
    provider: Provider = job.provider.build()
    provider_plan = dict(provider.plan(job_for_provider(job)))
    scope = str(provider_plan.get("scope", "network"))
    store, store_caps = check_store(job, scope)
    channel, channel_caps = None, None
    if job.channel is not None:
        channel, channel_caps = check_channel(job.channel, job, scope)
    elif scope == "network":
        channel, channel_caps = check_channel(job.store, job, scope)
    usd = {
        "store": dict(store_caps.usd),
        "channel": dict(channel_caps.usd) if channel_caps else {},
        "worker": {name: float(provider_plan.get(price, 0.0)) for name, price in _WORKER_USD.items()},
    }
    target = cast(ModelSpec, default_registry().find("model", job.model.name)).target
    heartbeat_s = job.recovery.heartbeat_s or _HEARTBEAT_S[store_caps.scope]
    return Plan(job, provider, provider_plan, scope, heartbeat_s, store, channel, usd, target)


# --- once the data are known --------------------------------------------------------------------------------


def check_data(plan: Plan, manifest: Manifest) -> int:
    """Check the job against the partition it is to use. Returns the bytes of one message.

    Raises:
        DataError: fewer rows than workers, or other features than the job says.
        JobError: model and data do not go together.
    """
    job = plan.job
    if plan.target != "none" and (plan.target == "class") != bool(manifest.classes):
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
    return parameter_bytes(job, features=manifest.features, classes=manifest.classes)


def parameter_bytes(job: Job, *, features: int, classes: int) -> int:
    """Bytes of the parameters of a job's model, for data of this shape; ``classes``: 0 = numbers are learnt."""
    try:
        shape = Shape(features, classes)
        return int(job.model.build().init(shape, keyed_generator(job.seed, 0, 0, "init")).nbytes)
    except NoRowsHere:  # a model that starts from rows: a guess that is right for linear ones
        return 4 * (features + 1) * max(1, classes)


# --- the default channel -------------------------------------------------------------------------------------


def default_channel(plan: Plan, run: str, message_bytes: int) -> Place:
    """The channel of a run that names none and whose workers are on one machine.

    Threads exchange through memory. Processes get a directory of their own on tmpfs, which is shared memory, or on
    disk where that has no room.
    """
    if plan.scope == "process":
        return Place.of(f"memory://{run}", channel=True)
    retained = retain_bytes(plan.job, message_bytes)
    return Place.of(local_channel(run, plan.job.workers, message_bytes, retained), channel=True)
