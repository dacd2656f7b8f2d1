"""The driver: plans a job, prepares it, launches its workers and watches over them to the end."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import JobError, LambdaMLError, LimitPassed, RunCancelled, RunError, StorageError
from lambdaml_core.provider.base import Provider
from lambdaml_core.run.code import use
from lambdaml_core.run.driver.aggregators import settle
from lambdaml_core.run.driver.cleanup import remove_channel, remove_run
from lambdaml_core.run.driver.estimate import check_limits, foresee
from lambdaml_core.run.driver.finishing import Status, finish, tear_down
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.driver.interrupts import Interrupts
from lambdaml_core.run.driver.plan import Plan, check_data, default_channel, make_plan
from lambdaml_core.run.driver.preflight import try_places
from lambdaml_core.run.driver.prepare import Arrays, check_initial, count_rounds, load_initial, make_spec, prepare_data
from lambdaml_core.run.driver.supervision import Lead, Process, Replaced, Supervision
from lambdaml_core.run.driver.telling import Teller
from lambdaml_core.run.job import Job
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.records.records import RunRecord, read_run
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.saved import SavedModel
from lambdaml_core.run.spec import CODE, DEPLOYMENT, INITIAL, SPEC, Limits, Place, Spec, put_json, run_store
from lambdaml_core.storage import FullStorage

__all__ = ["Event", "drive", "new_run_name", "run_job"]

_PARTITIONING_S = 0.5  # how often that is told
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def run_job(
    job: Job,
    *,
    arrays: Arrays | None = None,
    initial: SavedModel | None = None,
    on_event: Callable[[Event], None] | None = None,
    run: str | None = None,
) -> RunRecord:
    """Run a job to its end.

    Args:
        arrays: (x, y) to train on, instead of ``job.data.source``; see
            :func:`~lambdaml_core.data.arrays.write_arrays`.
        initial: the model to go on from, instead of ``job.init_from``.
        on_event: called in this thread with ``partitioning``, ``partitioned``, ``deploying``, ``deployed``,
            ``launched``, ``progress``, ``rounds``, ``epoch`` and ``ended``, with ``restarted`` for a worker that has a
            new process, and with ``reopened`` when all workers start again from a checkpoint; ``partitioning``,
            ``progress`` and ``rounds`` come about twice a second. An exception of it cancels the run.
        run: the name; default: a new one.

    Raises:
        UsageError: the job cannot work, or would pass a limit; nothing was launched, and nothing is left of it.
        WorkerFailed: a worker ended with an error that would come again, or more often than the job allows; the record
            of the failed run is in the store.
        LimitPassed: it has passed a limit of its job; no worker is left, and it can be resumed.
        RunCancelled: by Ctrl-C, SIGTERM, or from another process; no worker is left, and the run is marked.
        RunError: another process has taken it over.
    """
    if (job.data.source is None) == (arrays is None):
        raise JobError(
            "data.source must be given" if arrays is None else "data.source cannot be given beside arrays",
            hint="files to partition, or the directory or URL of a partition" if arrays is None else None,
        )
    initial = load_initial(job, initial)
    plan = make_plan(job)
    run = run or new_run_name(job.name)
    with Interrupts() as interrupts, contextlib.closing(plan.store.open()) as store:
        teller = Teller(run, on_event)
        preparation = _Preparation(plan, run, store, interrupts, teller)
        spec, deployment = preparation.prepare(arrays, initial)
        drive(
            store,
            spec,
            plan.provider,
            deployment,
            lead=preparation.lead,
            interrupts=interrupts,
            teller=teller,
        )
    return read_run(job.store, run)


def new_run_name(name: str | None = None) -> str:
    """A name for a run that sorts by time and can be said aloud, such as ``20250131-235959-income-pavilo``."""
    word = "".join(random.SystemRandom().choices(_SYLLABLES, k=3))
    return "-".join(filter(None, [datetime.now(UTC).strftime("%Y%m%d-%H%M%S"), name, word]))


class _Preparation:
    """All that comes before the launch. On any error nothing is left behind."""

    def __init__(self, plan: Plan, run: str, root: FullStorage, interrupts: Interrupts, teller: Teller) -> None:
        self._plan, self._run, self._root = plan, run, root
        self._store = run_store(root, run)
        self._interrupts, self._teller = interrupts, teller
        self._told = 0.0
        self._channel = plan.channel
        self._deployment: Mapping[str, Any] | None = None
        self.lead = Lead(self._store)

    def prepare(self, arrays: Arrays | None, initial: SavedModel | None) -> tuple[Spec, Mapping[str, Any]]:
        """Partition where that is needed, deploy, and write the specification: from then on the run exists."""
        try_places(self._run, self._plan.store, self._plan.channel, scope=self._plan.scope)
        try:
            self.lead.take()
            spec = self._specify(arrays, initial)
            self._interrupts.defer()  # what is deployed is known to the store before anything else happens
            self._teller.tell("deploying", provider=self._plan.job.provider.name)
            self._deployment = self._plan.provider.deploy(self._plan.provider_plan)
            put_json(self._store, DEPLOYMENT, self._deployment)
            self._teller.tell("deployed", provider=self._plan.job.provider.name)
            self.lead.keep()
            self._store.put(SPEC, [spec.encode()], if_absent=True)
        except BaseException as e:
            self._interrupts.defer()
            self._remove()
            if isinstance(e, KeyboardInterrupt):
                raise RunCancelled("interrupted before any worker was started") from e
            raise
        return spec, self._deployment

    def _specify(self, arrays: Arrays | None, initial: SavedModel | None) -> Spec:
        plan = self._plan
        data = prepare_data(plan, self._run, self._store, arrays, initial, self._partitioning)
        if data.made:
            m = data.manifest
            self._teller.tell("partitioned", rows=m.rows, validation_rows=m.validation_rows, bytes=m.nbytes)
        message_bytes = check_data(plan, data.manifest)
        if initial is not None:
            check_initial(initial, data)
            self._store.put(INITIAL, [initial.files()[WEIGHTS]], if_absent=True)
        self._channel = plan.channel or default_channel(plan, self._run, message_bytes)
        settled = settle(plan.job, self._channel, message_bytes, plan.usd_per_worker_s)
        self._check_limits(data.manifest, self._channel, settled.aggregators, message_bytes)
        code = use(plan.job.code)
        if code is not None:
            self._store.put(CODE, [code.data], if_absent=True)
        sha = code.sha256 if code is not None else None
        return make_spec(plan, self._run, self._channel, data, initial, message_bytes, settled, sha)

    def _check_limits(self, manifest: Manifest, channel: Place, aggregators: int, message_bytes: int) -> None:
        """Refuse what is predicted to pass a limit.

        Raises:
            JobError: it is.
        """
        limits, rounds = self._plan.job.limits, count_rounds(self._plan.job, manifest.rows)[0]
        if limits != Limits():
            numbers = {"message_bytes": message_bytes, "rounds": rounds, "data_bytes": manifest.nbytes}
            whole = foresee(self._plan, channel, aggregators=aggregators, **numbers)
            check_limits(whole, cost_usd=limits.cost_usd, seconds=limits.seconds)

    def _partitioning(self, done: int, total: int) -> None:
        self.lead.keep()
        if time.monotonic() - self._told >= _PARTITIONING_S:
            self._told = time.monotonic()
            self._teller.tell("partitioning", done=done, total=total)

    def _remove(self) -> None:
        with contextlib.suppress(StorageError):  # the error that brought us here says more
            if self._deployment is not None:
                tear_down(self._plan.provider, self._deployment)
            if self._channel is not None:
                remove_channel(self._root, self._channel, self._run)
            remove_run(self._root, self._run)


def drive(
    store: FullStorage,
    spec: Spec,
    provider: Provider,
    deployment: Mapping[str, Any],
    *,
    lead: Lead,
    interrupts: Interrupts,
    teller: Teller,
    generation: int = 0,
    known: Mapping[int, Process] | None = None,
    limits: Limits | None = None,
) -> None:
    """Launch the workers that are not there, watch over all, and clean up whatever happens.

    Args:
        store: the whole of it.
        generation: the newest.
        known: by rank, processes that others have launched.
        limits: default: those of the specification.

    Raises:
        As :func:`run_job`.
    """
    supervision = Supervision(
        store,
        spec,
        provider,
        deployment,
        lead=lead,
        interrupts=interrupts,
        teller=teller,
        generation=generation,
        known=known or {},
        limits=limits or spec.limits,
    )

    def end(status: Status, stop_reason: str | None) -> None:
        finish(
            store,
            spec,
            generation=supervision.generation,
            status=status,
            stop_reason=stop_reason,
            provider=provider,
            launched=supervision.launched,
        )
        teller.tell("ended", status=status, stop_reason=stop_reason)

    try:
        interrupts.check()
        supervision.launch()
        teller.tell("launched", **spec.shape())
        supervision.watch()
        lead.check()
    except Replaced as e:
        raise RunError(
            f"another process drives the run {spec.run} now", hint=f"follow it: lambdaml watch {spec.run}"
        ) from e
    except BaseException as e:
        status, stop_reason = _verdict(e, teller)
        end(status, without_secrets(stop_reason, [spec.encode().decode()]))
        if isinstance(e, KeyboardInterrupt | RunCancelled) and e is not teller.objection:
            raise RunCancelled(f"the run {spec.run} was cancelled", hint="no worker of it is left") from e
        raise
    end("succeeded", None)


def _verdict(error: BaseException, teller: Teller) -> tuple[Status, str]:
    """How a run ended that was left by an error."""
    if error is teller.objection:
        return "cancelled", f"a callback raised {type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "interrupted"
    if isinstance(error, RunCancelled | LimitPassed):
        return "cancelled", error.message
    if isinstance(error, LambdaMLError):
        return "failed", error.message
    return "failed", f"the driver failed: {type(error).__name__}: {error}"
