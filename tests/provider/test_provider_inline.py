"""``inline``: a thread per worker."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, SupportsKill, WorkerRef
from lambdaml_core.provider.inline import InlineProvider

begun = threading.Semaphore(0)


def work(ref: WorkerRef, *, stop: threading.Event, log: Any, launcher: Launcher) -> int:
    """In place of a worker; the name of the run says what it does."""
    log(f"rank {ref.rank}\nof {launcher.handle()}")
    begun.release()
    if ref.run == "succeed" and ref.attempt < 3:
        stop.wait()
        launcher.launch(ref._replace(attempt=ref.attempt + 1))
    if ref.run == "wait":
        stop.wait()
        return 1
    return 0 if launcher.remaining_s() == math.inf and ref.run in ("end", "succeed") else 2


def reference(run: str, rank: int) -> WorkerRef:
    return WorkerRef("memory://none", {}, run, 0, rank, 0, "")


def start(run: str, ranks: int) -> tuple[InlineProvider, Mapping[str, Any], list[str]]:
    provider = InlineProvider(NoOptions())
    deployment = provider.deploy(provider.plan({"entry": f"{__name__}:work", "workers": ranks}))
    launcher = provider.launcher(deployment)
    handles = [launcher.launch(reference(run, rank)) for rank in range(ranks)]
    for _ in handles:
        assert begun.acquire(timeout=60)
    return provider, deployment, handles


def test_states_and_logs() -> None:
    for run, state in (("end", "succeeded"), ("fail", "failed")):
        provider, deployment, handles = start(run, 2)
        provider.cancel(deployment, run, handles)
        assert provider.poll([*handles, "other"]) == dict.fromkeys(handles, state) | {"other": "unknown"}
        assert list(provider.logs(deployment, run, 1, 0.0)) == ["rank 1", f"of {handles[1]}"]
        assert len(list(provider.logs(deployment, run, None, 0.0))) == 4
        assert list(provider.logs(deployment, "other", None, 0.0)) == []
        assert provider.teardown(deployment) == []


def test_cancelling_waits_for_the_threads() -> None:
    before = {*threading.enumerate()}
    provider, deployment, handles = start("wait", 3)
    provider.cancel(deployment, "other", handles)
    assert set(provider.poll(handles).values()) == {"running"}
    provider.cancel(deployment, "wait", handles)
    assert set(provider.poll(handles).values()) == {"failed"}
    assert {*threading.enumerate()} <= before  # of which some may end meanwhile: they are of other tests


def test_cancelling_ends_successors_too() -> None:
    """Each worker starts the next one when it is told to stop."""
    before = {*threading.enumerate()}
    provider, deployment, handles = start("succeed", 2)
    provider.cancel(deployment, "succeed", handles)
    assert {*threading.enumerate()} <= before  # of which some may end meanwhile: they are of other tests
    attempts = [f"succeed/0/{rank}/{attempt}/0" for rank in range(2) for attempt in range(4)]
    assert provider.poll(attempts) == dict.fromkeys(attempts, "succeeded")
    assert len(list(provider.logs(deployment, "succeed", 0, 0.0))) == 8


def test_a_duplicate_has_a_handle_of_its_own() -> None:
    provider, deployment, [handle] = start("wait", 1)
    other = provider.launcher(deployment).launch(reference("wait", 0))
    assert other != handle
    provider.cancel(deployment, "wait", [handle])
    assert provider.poll([handle, other]) == {handle: "failed", other: "failed"}
    assert not isinstance(provider, SupportsKill)
