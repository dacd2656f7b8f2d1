"""Chaos: the same job once quietly and once under fire, and whether both models are the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Literal, TypedDict

from lambdaml_core.errors import JobError, LambdaMLError, RunCancelled, RunError
from lambdaml_core.provider.base import SupportsKill
from lambdaml_core.provider.local import import_path
from lambdaml_core.run.driver.driver import new_run_name, run_job
from lambdaml_core.run.driver.following import Event, Follower
from lambdaml_core.run.driver.interrupts import Interrupts
from lambdaml_core.run.driver.plan import make_plan
from lambdaml_core.run.driver.remote import cancel_run
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.attempts import newest_generation, run_end_key
from lambdaml_core.run.records.ranks import read_processes
from lambdaml_core.run.records.records import RunRecord, read_run
from lambdaml_core.run.spec import get_all_json, run_store
from lambdaml_core.run.worker.asynchronous import is_asynchronous
from lambdaml_core.storage import open_storage

_LOOK_S = 0.05
_SPARED = 0.15  # the last part of the rounds, so that no kill comes when the run is over
_AT_ONCE = 2  # kills until the next progress: recovery.restarts counts those without any
_DRIVER_AWAY_S = 1.0  # until it is resumed, at most
_END_S = 60.0  # for a driver to cancel its run


class Kill(TypedDict):
    """One SIGKILL: seconds since the run began; rank and attempt are None for the driver."""

    at_s: float
    what: Literal["worker", "driver"]
    rank: int | None
    attempt: int | None


class ChaosRecord(RunRecord):
    """The record of the chaotic run, and what was done to it.

    ``kills`` counts all, ``driver_kills`` those of the driver among them. ``equal``: its model is the same bytes as
    that of ``quiet_run``. ``overhead``: how much longer it took, as a share of the quiet run's seconds. ``exact`` is
    of both.
    """

    kills: int
    driver_kills: int
    equal: bool
    quiet_run: str
    quiet_sha256: str | None
    overhead: float
    killed: list[Kill]


def run_chaos(job: Job, kills: int, *, on_event: Callable[[Event], None] | None = None) -> ChaosRecord:
    """Run a job twice, the second time with SIGKILLs at random moments, and compare the models.

    Victims are workers and, about one time in ten but at least once, the driver, which runs in a process of its own
    and is replaced by one that resumes the run.

    Args:
        kills: how many, at least 1.
        on_event: called in this thread with the events of both runs, and ``killed`` with what :class:`Kill` has.

    Raises:
        UsageError: the job cannot work, or its workers cannot be killed from here; nothing was launched.
        RunError: one of the runs has failed, or was over before all kills were made.
        RunCancelled: interrupted; no process is left.
    """
    emit = on_event or (lambda event: None)
    provider = make_plan(job).provider
    if not isinstance(provider, SupportsKill):
        raise JobError(f"workers of the provider {job.provider.name} cannot be killed", hint='give provider = "local"')
    if is_asynchronous(job.workers, job.optimizer.build()):
        raise JobError(
            "two runs of an asynchronous job are never the same bytes",
            hint="set optimizer.asynchronous = false, or optimizer.staleness = 0",
        )
    if not job.checkpoint.enabled:
        raise JobError("without checkpoints a worker that is lost ends the run", hint="give checkpoint.enabled = true")
    if job.recovery.restarts < _AT_ONCE:
        raise JobError(
            f"recovery.restarts = {job.recovery.restarts} lets kills end the run",
            hint=f"give at least {_AT_ONCE}",
        )
    quiet = run_job(job, on_event=on_event)
    job = dataclasses.replace(job, aggregators=quiet["aggregators"])  # what was settled once is not settled anew
    run = new_run_name(job.name)
    shape = {name: quiet[name] for name in ("workers", "rounds", "aggregators", "aggregators_reason")}
    emit({"event": "launched", "run": run, "time_s": time.time(), **shape})
    with Interrupts() as interrupts, tempfile.TemporaryFile() as said, _Run(job, run, provider, emit, said) as chaotic:
        try:
            chaotic.go_through(moments(kills, quiet["rounds"]))
        except BaseException as e:
            interrupts.defer()
            chaotic.cancel()
            if isinstance(e, KeyboardInterrupt):
                raise RunCancelled(f"the run {run} was cancelled", hint="no worker of it is left") from e
            raise
    return _compare(quiet, read_run(job.store, run), chaotic.killed)


def moments(kills: int, rounds: int) -> list[tuple[float, bool]]:
    """Rounds after which to kill, rising, and whether the driver's turn it is then: random, one in each equal part."""
    drivers = random.sample(range(kills), max(1, round(kills / 10)))
    share = rounds * (1 - _SPARED) / kills
    return [((i + random.random()) * share, i in drivers) for i in range(kills)]  # noqa: S311  (no secret)


def _compare(quiet: RunRecord, record: RunRecord, killed: list[Kill]) -> ChaosRecord:
    record["exact"] = record["exact"] and quiet["exact"]
    return ChaosRecord(
        **record,
        kills=len(killed),
        driver_kills=sum(kill["what"] == "driver" for kill in killed),
        equal=record["model_sha256"] == quiet["model_sha256"] is not None,
        quiet_run=quiet["run"],
        quiet_sha256=quiet["model_sha256"],
        overhead=record["seconds"]["total"] / quiet["seconds"]["total"] - 1,
        killed=killed,
    )


class _Run:
    """The run under fire; use as a context manager."""

    def __init__(
        self, job: Job, run: str, provider: SupportsKill, emit: Callable[[Event], None], said: IO[bytes]
    ) -> None:
        self.killed: list[Kill] = []
        self._job, self._run, self._provider, self._emit = job, run, provider, emit
        self._root = open_storage(job.store)
        self._store = run_store(self._root, run)
        self._said = said  # what drivers say, which is the reason if one of them fails
        self._round = 0
        self._since_progress = 0
        self._began = time.monotonic()
        self._resume_at: float | None = None  # None = a driver is there
        self._driver: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._root.close()

    def go_through(self, moments: list[tuple[float, bool]]) -> None:
        """Follow the run to its end, and kill on the way.

        Raises:
            RunError: it has failed, or was over too early.
        """
        follower = Follower(self._store, self._follow, run=self._run)
        due = list(moments)
        driver = self._start({"job": self._job.to_mapping()})
        while self._resume_at is not None or driver.poll() is None:
            follower.look()
            if due and self._round >= due[0][0] and self._since_progress < _AT_ONCE and self._kill(driver=due[0][1]):
                self._since_progress += 1
                del due[0]
            if self._resume_at is not None and time.monotonic() >= self._resume_at:
                self._resume_at = None
                driver = self._start({"store": self._job.store})
            time.sleep(_LOOK_S)
        follower.look()
        if driver.returncode:
            raise RunError(f"the run {self._run} has failed after {len(self.killed)} kills: {self._last_words()}")
        if due:
            raise RunError(
                f"the run {self._run} was over after {len(self.killed)} of {len(moments)} kills",
                hint="give it more rounds or epochs, or make fewer kills",
            )

    def cancel(self) -> None:
        """End driver and workers."""
        if self._driver is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.terminate()
                self._driver.wait(_END_S)
            self._driver.kill()
            self._driver.wait()
        with contextlib.suppress(LambdaMLError):  # it is over, or has never begun
            cancel_run(self._job.store, self._run)

    def _follow(self, event: Event) -> None:
        if event["event"] == "progress":
            self._round = event["round"]
            self._since_progress = 0
        self._emit(event)

    def _kill(self, *, driver: bool) -> bool:
        """Returns whether there was a victim."""
        kill = self._kill_driver() if driver else self._kill_worker()
        if kill is not None:
            self.killed.append(kill)
            self._emit({"event": "killed", "run": self._run, "time_s": time.time(), **kill})
        return kill is not None

    def _kill_driver(self) -> Kill | None:
        if self._resume_at is not None or self._driver is None or self._driver.poll() is not None:
            return None
        self._driver.kill()
        self._driver.wait()
        self._resume_at = time.monotonic() + _DRIVER_AWAY_S * random.random()  # noqa: S311
        return self._kill_of("driver", None, None)

    def _kill_worker(self) -> Kill | None:
        """One of a random rank, among those that run."""
        processes = list(read_processes(self._store, newest_generation(self._store)).items())
        random.shuffle(processes)
        for rank, (attempt, handle) in processes:
            if self._provider.kill(handle):
                return self._kill_of("worker", rank, attempt)
        return None

    def _kill_of(self, what: Literal["worker", "driver"], rank: int | None, attempt: int | None) -> Kill:
        return Kill(at_s=round(time.monotonic() - self._began, 3), what=what, rank=rank, attempt=attempt)

    def _start(self, what: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """A driver, out of reach of the terminal's Ctrl-C. It is known to us before it is told what to do."""
        process = self._driver = subprocess.Popen(  # noqa: S603  (this interpreter, no shell)
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": import_path()},
            process_group=0,
        )
        with contextlib.suppress(BrokenPipeError), process.stdin or contextlib.nullcontext() as pipe:
            if pipe is not None:
                pipe.write(json.dumps({"run": self._run, **what}).encode())
        return process

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "without a word")


def main() -> None:
    """A driver: ``{"run", "job"}`` on standard input has it run the job, ``{"run", "store"}`` resume the run."""
    what = json.loads(sys.stdin.read())
    try:
        if "job" in what:
            run_job(Job.from_mapping(what["job"]), run=what["run"])
        elif not _has_succeeded(what["store"], what["run"]):
            resume_run(what["store"], what["run"])
    except LambdaMLError as e:
        sys.exit(e.message)


def _has_succeeded(store: str, run: str) -> bool:
    """Whether the driver that was killed had done all but exit."""
    with contextlib.closing(open_storage(store)) as root:
        mine = run_store(root, run)
        ends = get_all_json(mine, [run_end_key(newest_generation(mine))])
    return any(end["status"] == "succeeded" for end in ends.values())


if __name__ == "__main__":
    main()
