"""Going on with a run whose driver is gone, or that has failed or been cancelled."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lambdaml_core.data.shards import MANIFEST_KEY
from lambdaml_core.errors import RunError
from lambdaml_core.provider.base import Provider
from lambdaml_core.run.driver.bill import check_cost, cost_of
from lambdaml_core.run.driver.cleanup import empty_channel_from_here
from lambdaml_core.run.driver.driver import drive
from lambdaml_core.run.driver.finishing import end_workers, finish
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.driver.interrupts import Interrupts
from lambdaml_core.run.driver.needs import run_for_provider
from lambdaml_core.run.driver.preflight import look_for, try_places
from lambdaml_core.run.driver.scratch import remake_channel
from lambdaml_core.run.driver.supervision import Lead, Process, Replaced
from lambdaml_core.run.driver.telling import Teller
from lambdaml_core.run.records.attempts import (
    beat_key,
    end_key,
    newest_generation,
    open_generation,
    run_end_key,
)
from lambdaml_core.run.records.checkpoints import newest_complete
from lambdaml_core.run.records.ranks import read_processes
from lambdaml_core.run.records.records import RunRecord, read_run, read_spec
from lambdaml_core.run.records.slots import has_kept_slots
from lambdaml_core.run.records.status import driver_lives
from lambdaml_core.run.spec import (
    DEPLOYMENT,
    DRIVER,
    RESULT,
    Place,
    Spec,
    get_all_json,
    put_json,
    reading,
    run_store,
)
from lambdaml_core.storage import FullStorage, StorageURL, open_storage
from lambdaml_core.storage.layers import Prefix

_HEARTBEATS = 2  # within which a worker that lives gives a sign of life
_LOOK_S = 0.1
_SETTLE_S = 0.5  # more than lies between seeing that a driver is gone and taking its place: the last to do so has it


def resume_run(
    store: str,
    run: str,
    *,
    on_event: Callable[[Event], None] | None = None,
    cost_usd: float | None = None,
    seconds: float | None = None,
) -> RunRecord:
    """Bring a run to its end, as its driver would have done.

    Workers that live are gone on with. Where none does, all start again from the newest complete checkpoint.

    Args:
        store: URL of the store that the run is in.
        on_event: as in :func:`~lambdaml_core.run.driver.driver.run_job`; what the run has told before comes once more.
        cost_usd, seconds: limits instead of those of its job.

    Raises:
        RunNotFound: there is no such run.
        RunError: it goes on, or has succeeded, or nothing is left to go on from.
        LimitPassed: it has cost enough already; nothing was started. And as
            :func:`~lambdaml_core.run.driver.driver.run_job`.
        WorkerFailed, RunCancelled: as :func:`~lambdaml_core.run.driver.driver.run_job`.
    """
    with Interrupts() as interrupts, contextlib.closing(open_storage(store)) as root:
        look_for(Place.of(store), "store", DRIVER)  # whatever is there: it can be reached
        with reading(run):
            spec = read_spec(root, run)
            _check_place(store, spec)
            resumption = _Resumption(root, spec)
            ended = resumption.check()
            given = {name: value for name, value in (("cost_usd", cost_usd), ("seconds", seconds)) if value is not None}
            limits = dataclasses.replace(spec.limits, **given)
            check_cost(run, cost_of(run_store(root, run), spec), limits)
            try_places(run, spec.store, spec.channel, scope=spec.scope)
        interrupts.defer()
        resumption.take_over()
        if ended is None and resumption.has_result():
            resumption.finish()
        else:
            with reading(run):
                generation, deployment, known = resumption.start(again=ended is not None)
            drive(
                root,
                resumption.spec,
                resumption.provider,
                deployment,
                lead=resumption.lead,
                interrupts=interrupts,
                teller=Teller(run, on_event),
                generation=generation,
                known=known,
                limits=limits,
            )
    return read_run(store, run)


def _check_place(store: str, spec: Spec) -> None:
    """Refuse a copy: the run's workers would go on with what it was copied from.

    Raises:
        RunError: the run is of another directory.
    """
    here, there = StorageURL.parse(store), StorageURL.parse(spec.store.url)
    if here.scheme == there.scheme == "file" and Path(here.path).resolve() != Path(there.path).resolve():
        raise RunError(
            f"the run {spec.run} is in {there.path}, and {here.path} is a copy of it",
            hint=f"lambdaml resume {spec.run} --store {there.path}, or move the store back",
        )


class _Resumption:
    """One run that is to go on."""

    def __init__(self, root: FullStorage, spec: Spec) -> None:
        self.spec = spec
        self.provider: Provider = spec.provider.build()
        self._root = root
        self._store = run_store(root, spec.run)
        self.lead = Lead(self._store)
        self._generation = newest_generation(self._store)

    def check(self) -> str | None:
        """How the run has ended; None = it has not.

        Raises:
            RunError: there is nothing to be done for it.
        """
        run, key = self.spec.run, run_end_key(self._generation)
        found = get_all_json(self._store, [DRIVER, DEPLOYMENT, key])
        self.provider.launcher(found[DEPLOYMENT])  # refused here if it is damaged
        if key not in found:
            if driver_lives(found.get(DRIVER)):
                raise RunError(f"the run {run} goes on, and its driver lives", hint=f"lambdaml watch {run}")
            return None
        status = str(found[key]["status"])
        if status == "succeeded":
            raise RunError(f"the run {run} has succeeded", hint=f"lambdaml show {run}")
        return status

    def take_over(self) -> None:
        """Become the run's driver.

        Raises:
            RunError: another process does at the same time.
        """
        self.lead.take()
        time.sleep(_SETTLE_S)
        try:
            self.lead.check()
        except Replaced as e:
            raise RunError(
                f"another process resumes the run {self.spec.run}", hint=f"follow it: lambdaml watch {self.spec.run}"
            ) from e

    def has_result(self) -> bool:
        return bool(get_all_json(self._store, [RESULT]))

    def finish(self) -> None:
        """Do what the driver would have done after the last worker has ended."""
        finish(
            self._root,
            self.spec,
            generation=self._generation,
            status="succeeded",
            stop_reason=None,
            provider=self.provider,
        )

    def start(self, *, again: bool) -> tuple[int, Mapping[str, Any], Mapping[int, Process]]:
        """The generation to go on with, its deployment, and the processes that there are of it.

        Args:
            again: the run has ended, and its deployment is gone.
        """
        deployment = get_all_json(self._store, [DEPLOYMENT])[DEPLOYMENT]
        known = {} if again else self._find_processes()
        if any(process.word == "running" for process in known.values()):
            return self._generation, deployment, known
        self._open_generation()
        if again:
            plan = self.provider.plan(run_for_provider(self.spec))
            deployment = dict(self.provider.deploy(plan))
            put_json(self._store, DEPLOYMENT, deployment)
        return self._generation, deployment, {}

    def _open_generation(self) -> None:
        """Begin again, all ranks from the newest complete checkpoint.

        Raises:
            RunError: the rows are gone, or somebody else has opened it.
        """
        spec = self.spec
        self._check_rows()
        base = newest_complete(self._store, self._generation, spec.workers)
        begin = "the slots of its workers" if has_kept_slots(self._store) else "the beginning"
        reason = f"resumed from round {base['round']}" if base else f"resumed from {begin}"
        if not open_generation(self._store, self._generation + 1, reason, base):
            raise RunError(f"another process resumes the run {spec.run}", hint=f"follow it: lambdaml watch {spec.run}")
        self._generation += 1
        end_workers(self._root, spec.run, self.provider)
        empty_channel_from_here(self._root, spec)
        remake_channel(spec.channel, spec.run)

    def _check_rows(self) -> None:
        spec = self.spec
        with contextlib.closing(spec.data.open()) as place:
            data = Prefix(place, spec.data_prefix) if spec.data_prefix else place
            if not data.get_many([MANIFEST_KEY]):
                raise RunError(
                    f"the rows of the run {spec.run} are gone, and it cannot go on without them",
                    hint="train again; rows are kept of a run that ends after its first checkpoint",
                )

    # --- who is there

    def _find_processes(self) -> dict[int, Process]:
        """By rank, its newest attempt, and whether that is still running."""
        processes = read_processes(self._store, self._generation)
        words = self.provider.poll([handle for _, handle in processes.values()])
        found = {rank: Process(n, handle, words.get(handle, "unknown")) for rank, (n, handle) in processes.items()}
        unknown = [rank for rank, process in found.items() if process.word == "unknown"]
        beating = self._beating(unknown) if unknown else set()
        for rank in unknown:
            lives = rank in beating
            found[rank] = found[rank]._replace(word="running") if lives else _gone(found[rank])
        return found

    def _beating(self, ranks: list[int]) -> set[int]:
        """Those of these ranks that have ended in order, or give a sign of life before long."""
        g = self._generation
        keys = [beat_key(g, rank) for rank in ranks]
        before = get_all_json(self._store, keys)
        seen: set[int] = set()
        give_up = time.monotonic() + _HEARTBEATS * (self.spec.recovery.heartbeat_s or 1.0)
        while len(seen) < len(ranks) and time.monotonic() < give_up:
            time.sleep(_LOOK_S)
            now = get_all_json(self._store, [*keys, *(end_key(g, rank) for rank in ranks)])
            changed = (r for r in ranks if now.get(beat_key(g, r)) != before.get(beat_key(g, r)))
            seen.update(r for r in ranks if end_key(g, r) in now)
            seen.update(changed)
        return seen


def _gone(process: Process) -> Process:
    return Process(process.attempt, None, "failed: it gives no sign of life")
