"""Laws of whole runs, with the driver that users have."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from lambdaml_core.provider.base import Provider, SupportsKill
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.job import Job
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.records.ranks import read_processes
from lambdaml_core.run.records.records import RunRecord, model_files
from lambdaml_core.run.spec import run_store, sha256
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.provider_laws.given import WithWorkers
from lambdaml_core.testing.provider_laws.jobs import make_job, right_model, rows
from lambdaml_core.testing.provider_laws.stage import eventually

_WORKERS, _ROUNDS = 2, 40
_KILLED_ROUNDS = 120  # of a run that goes on for a while after its driver has seen that it does
_LATE_S = 0.03
_STARTS = 6  # of a worker, for which a limit has time at least
_SECOND_LIMIT = 4  # times the first, for machines on which handing over takes longer than is kept for it
_LATE_REQUESTS = 2  # of a round at least: the others' inputs are put, and then the result


class RunLaws(WithWorkers):
    """The trained model is the same, whatever happens to its workers."""

    short_limit_s: ClassVar[float] = 4.0
    """``max_duration_s`` for the law about it, where there is an option of this name; longer where workers start
    slowly."""

    @pytest.fixture
    def train(self, store: str) -> Iterator[Callable[..., RunRecord]]:
        """A function that runs a job to its end, by the driver; the run is removed after the law."""
        ran: list[str] = []

        def run(job: Job, on_event: Callable[[Event], None] | None = None) -> RunRecord:
            record = run_job(job, arrays=rows(), on_event=on_event)
            ran.append(record["run"])
            return record

        yield run
        clean(store, *ran) if ran else None

    def test_a_run_gives_the_right_model(
        self, reference: Reference, store: str, train: Callable[..., RunRecord]
    ) -> None:
        """A run trains the model that threads of this process train, bit for bit, and it is there afterwards.

        Its numbers are never rounded, so that no processor has an excuse. Fix what the laws above say of launching
        and ending workers; ``teardown`` removes nothing of the run's store.
        """
        record = train(make_job(reference, store, workers=_WORKERS, rounds=_ROUNDS))
        assert sha256(model_files(store, record["run"])[WEIGHTS]) == right_model(_WORKERS, _ROUNDS)
        assert (record["restarts"], record["generation"]) == (0, 0), "workers were lost on the way"

    def test_nothing_is_left_of_a_run(
        self, reference: Reference, store: str, temporary: Path, train: Callable[..., RunRecord]
    ) -> None:
        """When a run is over there is no process, no thread and no file of it on this machine, outside of its store.

        Fix ``cancel``, which comes before ``teardown`` also where a run has succeeded, or ``teardown``.
        """
        processes, threads = _children(), set(threading.enumerate())
        train(make_job(reference, store, workers=_WORKERS, rounds=_ROUNDS))
        eventually(lambda: True if _children() <= processes else None, "its processes have ended", self.patience_s)
        new = [t.name for t in threading.enumerate() if t not in threads]
        eventually(lambda: None if _going_on(threads) else True, f"its threads have ended: {new}", self.patience_s)
        assert not list(temporary.iterdir()), f"{next(temporary.iterdir()).name} is left"

    def test_a_run_longer_than_the_limit_gives_the_right_model(
        self, provider: Provider, reference: Reference, store: str, train: Callable[..., RunRecord]
    ) -> None:
        """A run that is longer than ``max_duration_s`` succeeds: workers hand over before they are ended.

        The model is the same. A slow machine may have one ended in the middle of its hand-over, but not all. Fix
        ``remaining_s``, which promises more time than there is, or a launcher that cannot launch from within a worker.
        """
        if not hasattr(provider.options, "max_duration_s"):
            pytest.skip("max_duration_s not declared: there is no such option")
        quick = train(make_job(reference, store, workers=_WORKERS, rounds=1))
        short_s = math.ceil(max(self.short_limit_s, _STARTS * quick["seconds"]["start"]))  # some count whole seconds
        for limit_s in (short_s, _SECOND_LIMIT * short_s):
            limited = dataclasses.replace(reference, values={**reference.values, "max_duration_s": limit_s})
            rounds = math.ceil(limit_s / (_LATE_REQUESTS * _LATE_S))
            seen: list[Event] = []
            job = make_job(limited, store, workers=_WORKERS, rounds=rounds, late_s=_LATE_S)
            record = train(job, seen.append)
            assert record["successions"] > 0, "the workers did not leave when their time was up"
            assert record["model_sha256"] == right_model(_WORKERS, rounds)
            if _started_by_workers(store, record["run"], seen):
                return
        pytest.fail("workers were ended before they had handed over")

    def test_a_killed_worker_is_replaced(
        self, provider: Provider, reference: Reference, store: str, train: Callable[..., RunRecord]
    ) -> None:
        """A worker that is killed in the middle of a run is replaced, and the model is the same, bit for bit.

        Fix ``launch``, which starts this rank once more, or what ``poll`` says of the one that is gone.
        """
        if not isinstance(provider, SupportsKill):
            pytest.skip("SupportsKill not implemented: its workers cannot be killed from here")
        killed: list[str] = []
        with contextlib.closing(open_storage(store)) as opened:

            def kill(event: Event) -> None:
                if event["event"] == "progress" and not killed:
                    for _, handle in list(read_processes(run_store(opened, event["run"]), 0).values())[-1:]:
                        killed.extend([handle] if provider.kill(handle) else [])

            record = train(make_job(reference, store, workers=_WORKERS, rounds=_KILLED_ROUNDS, late_s=_LATE_S), kill)
        assert killed, "no worker could be killed while the run went on"
        assert record["restarts"] >= 1, "the worker that was killed went on"
        assert record["model_sha256"] == right_model(_WORKERS, _KILLED_ROUNDS)


def _started_by_workers(store: str, run: str, seen: Sequence[Event]) -> set[tuple[int, int]]:
    """Rank and attempt of the successors that workers have started, and whose start no driver had to make good."""
    with contextlib.closing(open_storage(store)) as opened:
        handed = [key.removesuffix(".json").split("/")[2:] for key in run_store(opened, run).list("handovers/")]
    restarted = {(event["rank"], event["attempt"]) for event in seen if event["event"] == "restarted"}
    return {(int(rank), int(attempt) + 1) for rank, attempt in handed} - restarted


def _going_on(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before]


def _children() -> set[int]:
    """Processes that this one has started and not waited for, as far as the system tells."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, task.read_text().split()))
    return found
