"""What a job will take and cost, in all and a round for every number of aggregators, before anything is started."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

from lambdaml_core.comm.cost import Predicted
from lambdaml_core.data.shards import Manifest
from lambdaml_core.data.sources import data_files
from lambdaml_core.errors import JobError
from lambdaml_core.provider.base import SupportsEstimates, Work
from lambdaml_core.run.driver.aggregators import look_at_channel
from lambdaml_core.run.driver.cleanup import remove_run, remove_scratch
from lambdaml_core.run.driver.places import look_at
from lambdaml_core.run.driver.plan import Plan, check_data, default_channel, make_plan, parameter_bytes
from lambdaml_core.run.driver.prepare import count_rounds, prepare_data, read_manifest
from lambdaml_core.run.driver.scratch import room_for_messages, scratch_base
from lambdaml_core.run.job import AUTO, Job
from lambdaml_core.run.spec import Place, run_store
from lambdaml_core.storage import StorageURL, open_storage

_PEEKED_BYTES = 4 << 20  # files that are read in a moment


class Asked(NamedTuple):
    """What is said of data that nobody has looked at yet; None = it is not.

    Attributes:
        features: columns.
        classes: labels to tell apart.
        message_bytes: of the parameters, which is all that matters of features and classes.
        rows: to train on, from which the number of rounds follows.
    """

    features: int | None = None
    classes: int | None = None
    message_bytes: int | None = None
    rows: int | None = None


_NOTHING = Asked()


class Cost(TypedDict):
    """Requests and bytes of all workers, seconds, and dollars: ``usd`` of the channel and ``worker_usd`` of the
    workers for these seconds."""

    seconds: float
    put: int
    get: int
    delete: int
    sent: int
    received: int
    usd: float
    worker_usd: float


class Option(TypedDict):
    """One number of aggregators: what a round of it costs, and all rounds, None where their number is not known."""

    aggregators: int
    round: Cost
    run: Cost | None


class Whole(TypedDict):
    """What all of a job takes, from the first launch to its last round. Left out is what only the run can tell:
    computing, and what is printed; a run that stops by its loss ends sooner.

    ``seconds``: of which ``start_s`` go for starting processes, ``load_s`` for reading rows and ``exchange_s`` for
    rounds, of all processes of one rank together; ``successions``: how often each rank is handed over, since a process
    may not run any longer; ``launches``: of all ranks; ``usd``: of which ``worker_usd`` for workers and ``storage_usd``
    for the requests of rounds.
    """

    seconds: float
    start_s: float
    load_s: float
    exchange_s: float
    successions: int
    launches: int
    usd: float
    worker_usd: float
    storage_usd: float


class Estimate(TypedDict):
    """What is known of a job before it is launched.

    ``message_bytes``: of parameters or gradients; ``rounds``: the most there can be, None = not known;
    ``latency_s`` and ``bytes_per_s`` of one request, 0 = not stated, and taken to take no time; ``measured``: now and
    from here, instead of as the storage states them; ``prices``: dollars per request by class, and per byte;
    ``asked``: what the job says of aggregators; ``aggregators``: what that comes to; ``best``: what "auto" comes to;
    ``reason``: why. ``whole``: all of the job, with these aggregators; None while the rounds are not known.

    ``provider``: its name; ``usd_per_worker_s``, ``usd_per_launch``, ``start_s``, ``max_duration_s``, ``resources``,
    ``facts`` and ``permissions`` are of its plan; ``elsewhere``: what the job would take elsewhere, as
    :class:`~lambdaml_core.provider.base.SupportsEstimates` has it.
    """

    channel: str
    workers: int
    message_bytes: int
    rounds: int | None
    latency_s: float
    bytes_per_s: float
    parallel: int
    blocks: bool
    measured: bool
    prices: dict[str, float]
    asked: int | str
    aggregators: int
    best: int
    reason: str
    options: list[Option]
    whole: Whole | None
    provider: str
    usd_per_worker_s: float
    usd_per_launch: float
    start_s: float
    max_duration_s: float | None
    resources: list[str]
    facts: dict[str, str]
    permissions: dict[str, Any]
    elsewhere: dict[str, Mapping[str, Any]]


def estimate(job: Job, asked: Asked = _NOTHING, *, measures: bool = False) -> Estimate:
    """Predict a job. Reads the manifest of a partition, and small files; nothing else is done.

    Args:
        measures: measure the channel, instead of taking what it states.

    Raises:
        UsageError: the job cannot work, or how large its messages are cannot be told; the hint says how to tell it.
        StorageError: the partition cannot be reached, or the channel cannot be measured.
    """
    plan = make_plan(job)
    message_bytes, rounds, data_bytes = _size(plan, asked)
    with _channel(plan, message_bytes, measures) as place:
        channel = look_at_channel(place, message_bytes=message_bytes, measures=measures)
    usd_per_worker_s = plan.usd_per_worker_s
    choice = channel.choose(size=job.workers, nbytes=message_bytes, usd_per_worker_s=usd_per_worker_s)
    number = choice.aggregators if job.aggregators == AUTO else int(job.aggregators)
    predicted = {c.aggregators: c.predicted for c in choice.candidates}
    if number not in predicted:
        predicted[number] = channel.predict(number, size=job.workers, nbytes=message_bytes)
    caps = channel.caps
    whole = None if rounds is None else _whole(plan, predicted[number], rounds, data_bytes)
    work = Work(workers=job.workers, rounds=rounds, message_bytes=message_bytes, data_bytes=data_bytes)
    found = plan.provider_plan
    return Estimate(
        channel=str(StorageURL.parse(place.url)),
        workers=job.workers,
        message_bytes=message_bytes,
        rounds=rounds,
        latency_s=caps.latency_s,
        bytes_per_s=caps.bytes_per_s,
        parallel=caps.parallel,
        blocks=caps.blocks,
        measured=channel.measured,
        prices=dict(caps.usd),
        asked=job.aggregators,
        aggregators=number,
        best=choice.aggregators,
        reason=choice.reason,
        options=[_option(k, predicted[k], rounds, job.workers * usd_per_worker_s) for k in sorted(predicted)],
        whole=whole,
        provider=job.provider.name,
        usd_per_worker_s=usd_per_worker_s,
        usd_per_launch=float(found.get("usd_per_launch", 0.0)),
        start_s=float(found.get("start_s", 0.0)),
        max_duration_s=found.get("max_duration_s"),
        resources=list(found.get("resources", ())),
        facts=dict(found.get("facts", {})),
        permissions=dict(found.get("permissions", {})),
        elsewhere=_elsewhere(plan, work),
    )


def _option(aggregators: int, predicted: Predicted, rounds: int | None, usd_per_s: float) -> Option:
    def cost(times: int) -> Cost:
        p, seconds = predicted, times * predicted.seconds
        return Cost(
            seconds=seconds,
            put=times * p.put,
            get=times * p.get,
            delete=times * p.delete,
            sent=times * p.sent,
            received=times * p.received,
            usd=times * p.usd,
            worker_usd=seconds * usd_per_s,
        )

    return Option(aggregators=aggregators, round=cost(1), run=None if rounds is None else cost(rounds))


# --- all of it ----------------------------------------------------------------------------------------------


def foresee(plan: Plan, channel: Place, *, aggregators: int, message_bytes: int, rounds: int, data_bytes: int) -> Whole:
    """What all of a job takes whose data are known, by what its channel states of itself; no I/O."""
    looked = look_at_channel(channel, message_bytes=message_bytes, measures=False)
    return _whole(plan, looked.predict(aggregators, size=plan.job.workers, nbytes=message_bytes), rounds, data_bytes)


def check_limits(whole: Whole, *, cost_usd: float | None, seconds: float | None) -> None:
    """Refuse a job that would pass its limits.

    Raises:
        JobError: the prediction is above one; nothing has been started.
    """
    if cost_usd is not None and whole["usd"] > cost_usd:
        raise JobError(
            f"the job is predicted to cost ${whole['usd']:.4g}, computing not counted; the limit is ${cost_usd:.4g}",
            hint="raise --max-cost (limits.cost_usd), or take fewer rounds or workers: lambdaml plan shows what costs",
        )
    if seconds is not None and whole["seconds"] > seconds:
        raise JobError(
            f"the job is predicted to take {whole['seconds']:.4g} s, computing not counted; the limit is "
            f"{seconds:.4g} s",
            hint="raise --max-time (limits.seconds), or take fewer rounds or a quicker channel; lambdaml plan tells",
        )


def _whole(plan: Plan, once: Predicted, rounds: int, data_bytes: int) -> Whole:
    job, found = plan.job, plan.provider_plan
    source = job.data.source
    start_s = float(found.get("start_s", 0.0))
    caps = look_at(source if source is not None and "://" in source else job.store)[1].caps
    load_s = data_bytes / job.workers / caps.bytes_per_s if caps.bytes_per_s else 0.0
    exchange_s = rounds * once.seconds
    processes = 1
    if (most := found.get("max_duration_s")) is not None:
        useful = max(most - start_s - load_s, 1.0)  # of each process: what is left for rounds
        processes = max(1, math.ceil(exchange_s / useful))
    seconds = processes * (start_s + load_s) + exchange_s
    launches = job.workers * processes
    worker_usd = job.workers * seconds * plan.usd_per_worker_s + launches * float(found.get("usd_per_launch", 0.0))
    storage_usd = rounds * once.usd
    return Whole(
        seconds=seconds,
        start_s=processes * start_s,
        load_s=processes * load_s,
        exchange_s=exchange_s,
        successions=processes - 1,
        launches=launches,
        usd=worker_usd + storage_usd,
        worker_usd=worker_usd,
        storage_usd=storage_usd,
    )


def _elsewhere(plan: Plan, work: Work) -> dict[str, Mapping[str, Any]]:
    provider = plan.provider
    return dict(provider.estimates(plan.job.to_mapping(), work)) if isinstance(provider, SupportsEstimates) else {}


# --- how large, and how often --------------------------------------------------------------------------------


def _size(plan: Plan, asked: Asked) -> tuple[int, int | None, int]:
    """Bytes of the parameters, the most rounds, None = not known, and bytes of all rows, 0 = not known.

    Raises:
        JobError: nothing tells how large they are.
    """
    job = plan.job
    rounds = job.rounds if job.epochs is None else None
    if asked.rows is not None:
        rounds = count_rounds(job, asked.rows)[0]
    if asked.message_bytes is not None:
        return asked.message_bytes, rounds, 0
    if (manifest := _manifest(plan)) is not None:
        return check_data(plan, manifest), count_rounds(job, manifest.rows)[0], manifest.nbytes
    features = asked.features or job.data.features
    if features is None:
        raise JobError(
            "how large a message is cannot be told: nobody has looked at the data yet",
            hint="give --features N, with --classes N of more than two labels, or --message-bytes SIZE; or partition "
            "the data first",
        )
    classes = (asked.classes or 2) if plan.target == "class" else 0
    return parameter_bytes(job, features=features, classes=classes), rounds, 0


def _manifest(plan: Plan) -> Manifest | None:
    """Of the partition that exists, or that would be made of files which are read in a moment."""
    source = plan.job.data.source
    if source is None:
        return None
    if "://" in source:
        return read_manifest(Place.of(source))
    try:
        if sum(file.stat().st_size for file in data_files(source)) > _PEEKED_BYTES:
            return None
    except OSError:
        return None
    run = f"plan-{secrets.token_hex(6)}"
    with contextlib.closing(open_storage(f"memory://{run}")) as memory:
        try:
            return prepare_data(plan, run, run_store(memory, run), None, None, lambda done, total: None).manifest
        finally:
            remove_run(memory, run)


@contextlib.contextmanager
def _channel(plan: Plan, message_bytes: int, measures: bool) -> Iterator[Place]:
    """The job's channel, or one like that which would be made for it."""
    if plan.channel is not None:
        yield plan.channel
    elif plan.scope == "process" or measures:
        run = f"plan-{secrets.token_hex(6)}"
        place = default_channel(plan, run, message_bytes)
        try:
            yield place
        finally:
            remove_scratch(place, run)
    else:
        base, _ = scratch_base(room_for_messages(plan.job.workers, message_bytes))
        yield Place.of(StorageURL("file", path=str(base)).text(), channel=True)
