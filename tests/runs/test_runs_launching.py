"""Starting many workers: side by side over a network, one after another on one machine; none is lost sight of."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_help import cancer, make_job

from lambdaml_core.errors import LaunchFailed, StorageUnavailable, WorkerFailed
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.provider.inline import InlineLauncher, InlineProvider
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.launching import Launched, launch_all
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.storage.memory import MemoryStorage

PASSING = [OSError("no memory"), LaunchFailed("busy"), StorageUnavailable("away")]
REF = WorkerRef("file:///nowhere", {}, "a-run", 0, 0, 0, "")


class Denied(LaunchFailed):
    """The user has to do something first."""

    exit_code = 2


class Cloud:
    """Launches what it is told to, and fails as it is told to."""

    def __init__(self, fails: Mapping[int, Exception], meet: int = 1) -> None:
        self._fails, self._lock = fails, threading.Lock()
        self._meet = threading.Barrier(meet)
        self.now = self.most = 0
        self.launched: set[int] = set()

    def launch(self, ref: WorkerRef) -> str:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self._meet.wait()  # so many are in it at once, or none gets out
        with self._lock:
            self.now -= 1
            if ref.rank in self._fails:
                raise self._fails[ref.rank]
            self.launched.add(ref.rank)
        return f"handle of {ref.rank}"

    def handle(self) -> str:
        return ""

    def remaining_s(self) -> float:
        return math.inf


class Told(dict[int, Launched]):
    """What was told of each rank."""

    def launch(
        self, cloud: Launcher, count: int, *, remote: bool = True, turn: Callable[[], None] = lambda: None
    ) -> Told:
        refs = [REF._replace(rank=rank) for rank in range(count)]
        launch_all(cloud, refs, self._take, remote=remote, turn=turn)
        return self

    def _take(self, ref: WorkerRef, came: Launched) -> None:
        assert ref.rank not in self
        self[ref.rank] = came


@given(st.integers(1, 40), st.dictionaries(st.integers(0, 39), st.sampled_from(PASSING)))
def test_each_is_told_of_once(count: int, fails: dict[int, Exception]) -> None:
    for remote in (True, False):
        cloud = Cloud(fails)
        assert Told().launch(cloud, count, remote=remote) == {
            rank: fails.get(rank, f"handle of {rank}") for rank in range(count)
        }
        assert cloud.launched == set(range(count)) - set(fails)


def test_sixteen_at_once_and_no_more() -> None:
    cloud = Cloud({}, meet=16)
    assert len(Told().launch(cloud, 48)) == 48
    assert cloud.most == 16


def test_one_after_another_on_one_machine() -> None:
    cloud = Cloud({})
    Told().launch(cloud, 8, remote=False)
    assert cloud.most == 1


@pytest.mark.parametrize("error", [Denied("no permission"), ValueError("a bug")])
@pytest.mark.parametrize("remote", [True, False])
def test_who_was_launched_is_known_when_another_cannot_be(error: Exception, remote: bool) -> None:
    cloud, told = Cloud({20: error}), Told()
    with pytest.raises(type(error)):
        told.launch(cloud, 40, remote=remote)
    assert set(told) == cloud.launched


@given(st.integers(0, 30))
def test_who_was_launched_is_known_when_it_is_interrupted(turns: int) -> None:
    left = iter(range(turns))

    def turn() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    cloud, told = Cloud({}), Told()
    with pytest.raises(KeyboardInterrupt):
        told.launch(cloud, 40, turn=turn)
    assert set(told) == cloud.launched


class Wide(MemoryStorage):
    """Values that workers reach over a network."""

    caps = replace(MemoryStorage.caps, scope="network", durable=True)


class Denying(InlineProvider):
    """Launches are requests on a network, of which one is refused."""

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "scope": "network"}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _Denying(deployment, self._threads)


class _Denying(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        if ref.rank == 2:
            raise Denied("the function cannot be invoked: no permission", hint="allow it")
        return super().launch(ref)


class Crashing(InlineProvider):
    """One rank's code cannot be imported."""

    launches: ClassVar[list[int]] = []

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _Crashing(deployment, self._threads)


class _Crashing(InlineLauncher):
    def _work(self, worker: Any, handle: str) -> None:
        if worker.ref.rank == 1:
            Crashing.launches.append(worker.ref.attempt)
            worker.lines.append("ModuleNotFoundError: No module named 'nets'")
            worker.code = 1
        else:
            super()._work(worker, handle)


class Leaving(InlineProvider):
    """What it has made, it cannot remove."""

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        return ["the log group of a-run: no permission"]


def test_what_a_provider_has_to_leave_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lambdaml_core.provider.inline.InlineProvider", Leaving)
    record = run_job(make_job(tmp_path, workers=2, provider="inline"), arrays=cancer())
    assert record["status"] == "succeeded"
    assert caplog.messages == ["the provider has left the log group of a-run: no permission"]


def test_a_launch_that_is_refused_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that were launched before."""
    monkeypatch.setattr("lambdaml_core.storage.memory.MemoryStorage", Wide)
    monkeypatch.setattr("lambdaml_core.provider.inline.InlineProvider", Denying)
    store, before = f"memory://{tmp_path.name}", set(threading.enumerate())
    with pytest.raises(Denied, match="no permission"):
        run_job(make_job(store, workers=5, provider="inline"), arrays=cancer())
    (record,) = list_runs(store)
    assert (record["status"], record["stop_reason"]) == ("failed", "the function cannot be invoked: no permission")
    assert set(threading.enumerate()) <= before


def test_workers_that_crash_before_they_begin_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.provider.inline.InlineProvider", Crashing)
    with pytest.raises(
        WorkerFailed, match=r"worker 1 of run .* has ended 3 times before it could begin: .*'nets'"
    ) as e:
        run_job(make_job(tmp_path, workers=2, provider="inline"), arrays=cancer())
    assert "lambdaml logs" in (e.value.hint or "")
    assert Crashing.launches == [0, 1, 2]
