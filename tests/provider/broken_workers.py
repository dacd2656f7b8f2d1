"""Providers that break laws of starting, finding and ending workers; ``test_provider_kit.py`` runs them."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from broken_plans import HASTY, Broken

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.provider.inline import InlineLauncher, InlineProvider
from lambdaml_core.provider.local import LocalLauncher, LocalProvider

# --- starting -------------------------------------------------------------------------------------------------


class _TellsAllTheSame(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        return super().launch(ref._replace(rank=0))


class TellsAllTheSame(InlineProvider, Broken):
    law = "test_a_worker_does_what_its_reference_says"
    settings = HASTY

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _TellsAllTheSame(deployment, self._threads)


class _RefusesDuplicates(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        if any(worker.ref == ref for worker in self._threads.values()):
            raise FileExistsError(f"worker {ref.rank} is there already")
        return super().launch(ref)


class RefusesDuplicates(InlineProvider, Broken):
    law = "test_launching_twice_or_late_is_harmless"

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _RefusesDuplicates(deployment, self._threads)


class _CountsWorkers(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        before = sum(worker.ref.rank == ref.rank for worker in self._threads.values())
        return super().launch(ref._replace(attempt=before))


class CountsWorkers(InlineProvider, Broken):
    law = "test_launching_twice_or_late_is_harmless"
    mistake = "what comes is counted and not named, so that a duplicate counts twice"

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _CountsWorkers(deployment, self._threads)


class RemembersItsDeployments(LocalProvider, Broken):
    law = "test_a_deployment_launches_from_another_process"
    made: ClassVar[dict[str, Mapping[str, Any]]] = {}

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        self.made[plan["token"]] = super().deploy(plan)
        return {"token": plan["token"]}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return super().launcher(self.made[deployment["token"]])

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        return super().teardown(self.made[deployment["token"]])

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        super().cancel(self.made[deployment["token"]], run, handles)


class _DoesNotKnowItself(InlineLauncher):
    def handle(self) -> str:
        return f"thread-{threading.get_ident()}"


class DoesNotKnowItself(InlineProvider, Broken):
    law = "test_a_worker_knows_its_handle"

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _DoesNotKnowItself(deployment, self._threads)


class NumbersItsWorkers(LocalProvider, Broken):
    """Handles are places in a table that other processes do not have."""

    law = "test_handles_serve_another_process"

    def __init__(self, options: LocalOptions) -> None:
        super().__init__(options)
        self.table: dict[str, str] = {}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _Numbering(super().launcher(deployment), self.table)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {handle: self._state(self.table.get(handle, handle)) for handle in handles}


class _Numbering:
    def __init__(self, inner: Launcher, table: dict[str, str]) -> None:
        self._inner, self._table = inner, table
        self.handle, self.remaining_s = inner.handle, inner.remaining_s

    def launch(self, ref: WorkerRef) -> str:
        number = str(len(self._table))
        self._table[number] = self._inner.launch(ref)
        return number


class _HasALimit(InlineLauncher):
    def remaining_s(self) -> float:
        return 900.0


class HasALimitUnsaid(InlineProvider, Broken):
    law = "test_remaining_time_falls"

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _HasALimit(deployment, self._threads)


class _PromisesTime(LocalLauncher):
    def remaining_s(self) -> float:
        return math.inf


class PromisesTime(LocalProvider, Broken):
    law = "test_a_run_longer_than_the_limit_gives_the_right_model"
    mistake = "a hand-over races with the end of the process that hands over"
    settings: ClassVar[Mapping[str, Any]] = {"short_limit_s": 1.0}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _PromisesTime(deployment, self._children)


# --- looking --------------------------------------------------------------------------------------------------


class SaysNothing(InlineProvider, Broken):
    law = "test_poll_answers_for_every_handle"
    mistake = "errors become None"

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {h: word if word != "unknown" else None for h, word in super().poll(handles).items()}  # type: ignore[misc]


class RaisesForStrangers(InlineProvider, Broken):
    law = "test_poll_answers_for_every_handle"

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return super().poll([handle for handle in handles if self._threads[handle]])


class RunsForEver(InlineProvider, Broken):
    law = "test_poll_sees_how_workers_end"
    mistake = "waits never end"
    settings = HASTY

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {h: "running" if h in self._threads else "unknown" for h in handles}


class AlwaysWell(InlineProvider, Broken):
    """A function that has returned has succeeded, whatever it returned."""

    law = "test_poll_sees_how_workers_end"
    mistake = "errors are swallowed"

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {h: word.replace("failed", "succeeded") for h, word in super().poll(handles).items()}


class OneLogForAll(InlineProvider, Broken):
    law = "test_logs_are_by_rank_and_in_order"

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        yield from super().logs(deployment, run, None, since_s)


class FirstPageOfTheLog(InlineProvider, Broken):
    law = "test_logs_are_by_rank_and_in_order"
    mistake = "the first page of a listing is taken for all of it"
    settings: ClassVar[Mapping[str, Any]] = {"logs_s": 0.1}

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        yield from itertools.islice(super().logs(deployment, run, rank, since_s), 3)


class NewestFirst(InlineProvider, Broken):
    law = "test_logs_are_by_rank_and_in_order"

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        yield from reversed(list(super().logs(deployment, run, rank, since_s)))


# --- ending ---------------------------------------------------------------------------------------------------


class CancelsOne(InlineProvider, Broken):
    law = "test_cancel_ends_all_workers_of_a_run"
    settings = HASTY

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        for handle in handles[:1]:
            self._threads[handle].stop.set()


class CancelsOnce(InlineProvider, Broken):
    law = "test_cancel_ends_all_workers_of_a_run"

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        super().cancel(deployment, run, handles)
        for handle in handles:
            del self._threads[handle]


class CancelsEverybody(InlineProvider, Broken):
    law = "test_cancel_spares_other_runs"
    mistake = "what other runs have is cleared away with one's own"
    settings = HASTY

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        for each in {worker.ref.run for worker in self._threads.values()}:
            super().cancel(deployment, each, handles)


class _Killing(InlineProvider):
    """As if a thread could be killed: it is told to end, and nobody else is."""

    everybody: ClassVar[dict[str, Any]] = {}

    def __init__(self, options: NoOptions) -> None:
        super().__init__(options)
        self._threads = self.everybody

    def kill(self, handle: str) -> bool:
        worker = self._threads.get(handle)
        if worker is None or worker.code is not None:
            return False
        worker.stop.set()
        return True


class KillsTheWholeRun(_Killing, Broken):
    law = "test_kill_ends_one_worker"
    settings = HASTY

    def kill(self, handle: str) -> bool:
        killed = super().kill(handle)
        for other, worker in self._threads.items():
            if killed and worker.ref.run == self._threads[handle].ref.run:
                super().kill(other)
        return killed


class KillsTheDead(_Killing, Broken):
    law = "test_kill_ends_one_worker"

    def kill(self, handle: str) -> bool:
        super().kill(handle)
        return True


class _StartsNoSecond(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        if ref.attempt:
            raise OSError("this worker was started before")
        return super().launch(ref)


class StartsNoSecond(_Killing, Broken):
    law = "test_a_killed_worker_is_replaced"

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _StartsNoSecond(deployment, self._threads)


class KillsNobody(_Killing, Broken):
    law = "test_a_killed_worker_is_replaced"

    def kill(self, handle: str) -> bool:
        return handle in self._threads
