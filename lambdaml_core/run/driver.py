"""The driver: plans a job, launches its workers, watches them, and writes down how the run ended."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambdaml_core.errors import JobError, KeyNotFound, LambdaMLError, RunCancelled, StorageError, WorkerFailed
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.registry import default_registry
from lambdaml_core.run.cleanup import remove_channel, remove_run, remove_temporary_data
from lambdaml_core.run.interrupts import Interrupts
from lambdaml_core.run.job import Job
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.plan import Plan, check_data, default_channel, make_plan
from lambdaml_core.run.prepare import Arrays, check_initial, load_initial, make_spec, prepare_data
from lambdaml_core.run.records import RunRecord, read_run
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.saved import SavedModel
from lambdaml_core.run.spec import (
    DRIVER,
    END,
    INITIAL,
    PROGRESS,
    SPEC,
    Spec,
    end_key,
    error_key,
    event_key,
    get_json,
    log_key,
    put_json,
    run_store,
    sha256,
)

Event = Mapping[str, Any]
"""A JSON object with ``event``, ``run`` and ``time_s`` (seconds since 1970)."""

_POLL_S = 0.05  # how soon a worker's end is noticed
_FOLLOW_S = 0.5  # how often the progress is read
_ALIVE_S = 5.0  # how often the driver leaves a sign of life
_LOG_BYTES = 64 << 10  # of a worker's log that is kept with a failed run
_log = logging.getLogger("lambdaml")
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def run_job(
    job: Job,
    *,
    arrays: Arrays | None = None,
    initial: SavedModel | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> RunRecord:
    """Run a job to its end.

    Args:
        arrays: (x, y) to train on, instead of ``job.data.source``; see
            :func:`~lambdaml_core.data.arrays.write_arrays`.
        initial: the model to go on from, instead of ``job.init_from``.
        on_event: called in this thread with ``partitioning``, ``partitioned``, ``launched``, ``progress``, ``rounds``,
            ``epoch`` and ``ended``; ``partitioning``, ``progress`` and ``rounds`` come about twice a second. An
            exception of it cancels the run.

    Raises:
        UsageError: the job cannot work; nothing was launched, and nothing is left of it.
        WorkerFailed: a worker ended with an error; the record of the failed run is in the store.
        RunCancelled: interrupted by Ctrl-C or SIGTERM; no worker is left, and the run is marked.
    """
    if (job.data.source is None) == (arrays is None):
        raise JobError(
            "data.source must be given" if arrays is None else "data.source cannot be given beside arrays",
            hint="files to partition, or the directory or URL of a partition" if arrays is None else None,
        )
    initial = load_initial(job, initial)
    plan = make_plan(job)
    with Interrupts() as interrupts:
        driver = _Driver(plan, new_run_name(job.name), interrupts, on_event)
        try:
            driver.execute(driver.prepare(arrays, initial))
        finally:
            driver.close()
    return read_run(job.store, driver.run)


def new_run_name(name: str | None = None) -> str:
    """A name for a run that sorts by time and can be said aloud, such as ``20250131-235959-income-pavilo``."""
    word = "".join(random.SystemRandom().choices(_SYLLABLES, k=3))
    return "-".join(filter(None, [datetime.now(UTC).strftime("%Y%m%d-%H%M%S"), name, word]))


class _Driver:
    """One run."""

    def __init__(self, plan: Plan, run: str, interrupts: Interrupts, on_event: Callable[[Event], None] | None) -> None:
        job = plan.job
        self.run = run
        self._plan, self._interrupts, self._on_event = plan, interrupts, on_event
        self._provider = plan.provider
        self._root = plan.store.open()
        self._store = run_store(self._root, run)
        urls = (job.store, job.channel, job.data.source, job.init_from)
        self._referring = [url for url in urls if url is not None]  # texts that may name secrets
        self._events = 0
        self._round = -1
        self._objection: BaseException | None = None  # what a listener raised
        self._followed = self._alive = 0.0

    def close(self) -> None:
        """Give back the store's connections and memory."""
        self._root.close()

    # --- before the launch

    def prepare(self, arrays: Arrays | None, initial: SavedModel | None) -> Spec:
        """Partition where that is needed, and write the specification. On any error nothing is left behind."""
        plan, channel = self._plan, None
        try:
            data = prepare_data(plan, self.run, self._store, arrays, initial, self._partitioning)
            if data.made:
                m = data.manifest
                self._tell("partitioned", rows=m.rows, validation_rows=m.validation_rows, bytes=m.nbytes)
            message_bytes = check_data(plan, data.manifest)
            if initial is not None:
                check_initial(initial, data)
                self._store.put(INITIAL, [initial.files()[WEIGHTS]], if_absent=True)
            channel = plan.channel or default_channel(plan, self.run, message_bytes)
            spec = make_spec(plan, self.run, channel, data, initial)
            self._interrupts.defer()  # from here on the run exists, and is ended in order
            self._sign_of_life()
            self._store.put(SPEC, [spec.encode()], if_absent=True)
        except BaseException as e:
            self._interrupts.defer()
            with contextlib.suppress(StorageError):  # the error that brought us here says more
                remove_run(self._root, self.run)
                if channel is not None:
                    remove_channel(channel, self.run)
            if isinstance(e, KeyboardInterrupt):
                raise RunCancelled("interrupted before any worker was started") from e
            raise
        return spec

    def _partitioning(self, done: int, total: int) -> None:
        if time.monotonic() - self._followed >= _FOLLOW_S:
            self._followed = time.monotonic()
            self._tell("partitioning", done=done, total=total)

    # --- from the launch to the end

    def execute(self, spec: Spec) -> None:
        """Launch, watch, and clean up whatever happens."""
        began = time.monotonic()
        end: dict[str, Any] = {"status": "failed", "stop_reason": None}
        deployment: Mapping[str, Any] = {}
        try:
            self._interrupts.check()
            deployment = self._provider.deploy(self._plan.provider_plan)
            handles = self._launch(spec, deployment)
            self._tell("launched", workers=spec.workers, rounds=spec.rounds, aggregators=spec.aggregators)
            self._watch(handles)
            end["status"] = "succeeded"
        except KeyboardInterrupt as e:
            end |= {"status": "cancelled", "stop_reason": "interrupted"}
            raise RunCancelled(f"the run {self.run} was cancelled", hint="no worker of it is left") from e
        except BaseException as e:
            if e is self._objection:
                end |= {"status": "cancelled", "stop_reason": f"a callback raised {type(e).__name__}: {e}"}
            elif isinstance(e, LambdaMLError):
                end["stop_reason"] = e.message
            else:
                end["stop_reason"] = f"the driver failed: {type(e).__name__}: {e}"
            end["stop_reason"] = self._redacted(end["stop_reason"])
            raise
        finally:
            self._finish(spec, deployment, end, began)

    def _launch(self, spec: Spec, deployment: Mapping[str, Any]) -> dict[str, int]:
        """Start every worker. Returns the rank of each handle."""
        launcher = self._provider.launcher(deployment)
        storage = dataclasses.asdict(spec.store.reference)
        digest = sha256(bytes(self._store.get(SPEC)))
        return {
            launcher.launch(WorkerRef(spec.store.url, storage, self.run, rank, 0, digest)): rank
            for rank in range(spec.workers)
        }

    def _watch(self, handles: Mapping[str, int]) -> None:
        """Until all workers have succeeded.

        Raises:
            WorkerFailed: one has not.
        """
        going_on = dict(handles)
        while going_on:
            self._interrupts.check()
            words = self._provider.poll(list(going_on))
            states = {handle: self._state(handles[handle], word) for handle, word in words.items()}
            failed = {handles[h]: word for h, word in states.items() if word.startswith("failed")}
            if failed:
                raise self._failure(failed)
            going_on = {h: rank for h, rank in going_on.items() if states.get(h) != "succeeded"}
            self._follow(last=not going_on)
            if going_on:
                time.sleep(_POLL_S)

    def _state(self, rank: int, word: str) -> str:
        """What the provider says of a worker, or the records where it does not know."""
        if word != "unknown":
            return word
        found = self._store.get_many([end_key(rank), error_key(rank)])
        return "succeeded" if end_key(rank) in found else "failed" if found else "running"

    def _failure(self, failed: Mapping[int, str]) -> WorkerFailed:
        """The error of the worker that failed first, among those that have ended by now."""
        errors = [(rank, self._read(error_key(rank))) for rank in failed]
        said = [(error["time_s"], rank, error) for rank, error in errors if error is not None]
        silent = [rank for rank, error in errors if error is None]
        if silent:  # what ended without a word is why others have something to say
            rank = silent[0]
            reason = failed[rank].partition(": ")[2] or self._last_words(rank)
            return WorkerFailed(f"worker {rank} of run {self.run} ended: {reason}", hint=self._log_hint(rank))
        _, rank, error = min(said, key=lambda s: s[:2])
        return WorkerFailed(
            f"worker {rank} of run {self.run}: {error['message']}", hint=error["hint"] or self._log_hint(rank)
        )

    def _last_words(self, rank: int) -> str:
        lines = [line.strip() for line in self._provider.logs(self.run, rank, 0.0) if line.strip()]
        return lines[-1] if lines else "without a word"

    def _log_hint(self, rank: int) -> str:
        return f"its log is in the store under runs/{self.run}/{log_key(rank)}"

    def _follow(self, *, last: bool) -> None:
        """Hand on what rank 0 has told since the last time."""
        now = time.monotonic()
        if now - self._alive >= _ALIVE_S:
            self._sign_of_life()
        if now - self._followed < _FOLLOW_S and not last:
            return
        self._followed = now
        progress = self._read(PROGRESS)
        if progress is None or (progress["round"], progress["events"]) == (self._round, self._events):
            return
        self._round = progress["round"]
        for number in range(self._events, progress.pop("events")):
            self._emit(get_json(self._store, event_key(number)))
            self._events = number + 1
        self._tell("progress", **progress)

    def _finish(self, spec: Spec, deployment: Mapping[str, Any], end: dict[str, Any], began: float) -> None:
        """End what still runs, keep logs of a failure, remove what was temporary, write the end."""
        self._provider.cancel(self.run)
        if end["status"] == "failed":
            self._keep_logs(spec.workers)
        self._provider.teardown(deployment)
        try:
            remove_channel(spec.channel, self.run)
        except StorageError as e:  # how the run ended is not for the channel to decide
            said = self._redacted(e.message)
            _log.warning("messages are left in the channel until lambdaml clean %s: %s", self.run, said)
        remove_temporary_data(self._root, self.run)
        seconds = time.monotonic() - began
        put_json(self._store, END, end | {"seconds": seconds, "time_s": time.time()}, if_absent=True)
        self._tell("ended", status=end["status"], stop_reason=end["stop_reason"])

    def _keep_logs(self, workers: int) -> None:
        for rank in range(workers):
            text = "\n".join(self._provider.logs(self.run, rank, 0.0))
            if text:
                self._store.put(log_key(rank), [self._redacted(text).encode()[-_LOG_BYTES:]])

    # --- small things

    def _redacted(self, text: str) -> str:
        return without_secrets(text, self._referring)

    def _sign_of_life(self) -> None:
        self._alive = time.monotonic()
        put_json(self._store, DRIVER, {"time_s": time.time()})

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            return get_json(self._store, key)
        except KeyNotFound:
            return None

    def _tell(self, event: str, **values: Any) -> None:
        self._emit({"event": event, "run": self.run, "time_s": time.time(), **values})

    def _emit(self, event: Event) -> None:
        default_registry().run_event(event)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except BaseException as e:
                self._objection = e
                raise
