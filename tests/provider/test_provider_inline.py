"""``inline``: a thread per worker."""

from __future__ import annotations

import threading
from typing import Any

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.provider.inline import InlineProvider

begun = threading.Semaphore(0)


def work(ref: WorkerRef, *, stop: threading.Event, log: Any) -> int:
    """In place of a worker; the name of the run says what it does."""
    log(f"rank {ref.rank}\nof {ref.run}")
    begun.release()
    if ref.run == "wait":
        stop.wait()
        return 1
    return 0 if ref.run == "end" else 2


def start(run: str, ranks: int) -> tuple[InlineProvider, list[str]]:
    provider = InlineProvider(NoOptions())
    deployment = provider.deploy(provider.plan({"entry": f"{__name__}:work", "workers": ranks}))
    launcher = provider.launcher(deployment)
    handles = [launcher.launch(WorkerRef("memory://none", {}, run, rank, 0, "")) for rank in range(ranks)]
    for _ in handles:
        assert begun.acquire(timeout=60)
    return provider, handles


def test_states_and_logs() -> None:
    for run, state in (("end", "succeeded"), ("fail", "failed")):
        provider, handles = start(run, 2)
        provider.cancel(run)
        assert provider.poll([*handles, "other"]) == dict.fromkeys(handles, state) | {"other": "unknown"}
        assert list(provider.logs(run, 1, 0.0)) == ["rank 1", f"of {run}"]
        assert len(list(provider.logs(run, None, 0.0))) == 4
        assert list(provider.logs("other", None, 0.0)) == []
        assert provider.teardown({}) == []


def test_cancelling_waits_for_the_threads() -> None:
    before = threading.active_count()
    provider, handles = start("wait", 3)
    provider.cancel("other")
    assert set(provider.poll(handles).values()) == {"running"}
    provider.cancel("wait")
    assert set(provider.poll(handles).values()) == {"failed"}
    assert threading.active_count() == before
