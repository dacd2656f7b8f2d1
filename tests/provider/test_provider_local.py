"""``local``: fresh pinned processes, those of a run in one process group."""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.provider import processes
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.provider.local import LocalProvider, worker_environment

WAIT_S = 240

SCRIPT = """
import json, os, signal, sys
from lambdaml_core.options import parse
from lambdaml_core.builtin import LocalOptions
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.provider.local import LocalProvider

def main(how, attempt, rank):
    print("rank", rank, "stdin", sys.stdin.read() == "", flush=True)
    if how == "fail":
        sys.exit(3)
    if how == "crash":
        import ctypes
        ctypes.string_at(0)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork() if how == "parent" else os.getpid()
    if how == "end":
        return
    launcher = LocalProvider(LocalOptions()).launcher(json.loads(os.environ["DEPLOYMENT"]))
    if how == "successor" and attempt == 0:
        launcher.launch(WorkerRef(**json.loads(sys.argv[1]))._replace(attempt=1))
        return
    if child:
        with open(os.environ["READY"], "w") as ready:
            seconds = launcher.remaining_s()
            ready.write(json.dumps([child, launcher.handle(), os.getpgrp(), seconds]) + "\\n")
    while True:
        signal.pause()

ref = json.loads(sys.argv[1])
main(ref["run"], ref["attempt"], ref["rank"])
"""


class Workers:
    """What is run in place of workers; the name of the run says what it does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = monkeypatch
        self._ready = folder / "ready"
        os.mkfifo(self._ready)
        self._said = os.fdopen(os.open(self._ready, os.O_RDWR), encoding="ascii")  # what two say at once is two lines
        (folder / "odd_worker.py").write_text(SCRIPT)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("READY", str(self._ready))
        self.deploy(None)

    def deploy(self, limit_s: float | None) -> None:
        self.provider = LocalProvider(LocalOptions(max_duration_s=limit_s))
        plan = json.loads(json.dumps(self.provider.plan({"entry": "odd_worker:main", "workers": 2})))
        assert plan["max_duration_s"] == limit_s
        self.deployment: Mapping[str, Any] = json.loads(json.dumps(self.provider.deploy(plan)))
        assert self.provider.deploy(plan) == self.deployment
        self.launcher = self.provider.launcher(self.deployment)
        self._environment.setenv("DEPLOYMENT", json.dumps(self.deployment))

    def start(self, run: str, rank: int = 7) -> str:
        return self.launcher.launch(WorkerRef("file:///none", {}, run, 0, rank, 0, ""))

    def say(self) -> tuple[int, str, int, float]:
        """What the next worker that pauses says: number of its child or itself, handle, process group, time left."""
        pid, handle, group, seconds = json.loads(self._said.readline())
        return pid, handle, group, seconds

    def end(self) -> None:
        for run in ("pause", "stubborn", "parent", "successor"):
            self.provider.cancel(self.deployment, run, [])
        self.provider.teardown(self.deployment)
        self._said.close()


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    workers = Workers(tmp_path, monkeypatch)
    yield workers
    workers.end()


def number(handle: str) -> int:
    return int(handle.split("/")[1])


def wait_for_end(pid: int) -> None:
    fd = os.pidfd_open(pid)
    assert select.select([fd], [], [], WAIT_S)[0]
    os.close(fd)


def test_a_worker_that_crashes_in_native_code_says_where(workers: Workers) -> None:
    handle = workers.start("crash")
    wait_for_end(number(handle))
    assert workers.provider.poll([handle]) == {handle: "failed: killed by SIGSEGV"}
    lines = list(workers.provider.logs(workers.deployment, "crash", 7, 0.0))
    assert "Fatal Python error: Segmentation fault" in lines
    assert any("odd_worker.py" in line for line in lines)


@pytest.mark.parametrize(("run", "state"), [("end", "succeeded"), ("fail", "failed")])
def test_a_worker_that_ends(workers: Workers, run: str, state: str) -> None:
    assert not Path(workers.deployment["logs"]).exists()  # nothing is made before others know of it
    handle = workers.start(run)
    wait_for_end(number(handle))
    provider, deployment = workers.provider, workers.deployment
    assert provider.poll([handle, "0/0/1"]) == {handle: state, "0/0/1": "unknown"}
    assert list(provider.logs(deployment, run, 7, 0.0)) == ["rank 7 stdin True"]
    assert list(provider.logs(deployment, run, 0, 0.0)) == []
    assert list(provider.logs(deployment, "other", None, 0.0)) == []
    provider.cancel(deployment, run, [handle])
    assert provider.teardown(deployment) == []
    assert not Path(deployment["logs"]).exists()
    assert list(provider.logs(deployment, run, 7, 0.0)) == []


@pytest.mark.parametrize("run", ["pause", "stubborn", "parent"])
def test_cancelling(workers: Workers, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the worker does about SIGTERM, and with what it has started."""
    if run != "stubborn":
        monkeypatch.setattr(processes, "_GRACE_S", WAIT_S)  # who listens may take a while to be heard
    monkeypatch.setattr(processes, "_HOPELESS_S", 2 * WAIT_S)
    handle = workers.start(run)
    pid, said, group, seconds = workers.say()
    deepest = os.pidfd_open(pid)
    provider, deployment = workers.provider, workers.deployment
    assert (said, group, seconds) == (handle, number(handle), float("inf"))
    provider.cancel(deployment, "another run", [])
    other = LocalProvider(LocalOptions())
    other.cancel(other.deploy(other.plan({"entry": "odd_worker:main", "workers": 1})), run, [])  # of the same name
    assert provider.poll([handle]) == {handle: "running"}
    provider.cancel(deployment, run, [])  # nobody needs to have its handle
    killer = "SIGKILL" if run == "stubborn" else "SIGTERM"
    assert provider.poll([handle]) == {handle: f"failed: killed by {killer}"}
    assert select.select([deepest], [], [], WAIT_S)[0]
    os.close(deepest)
    provider.cancel(deployment, run, [handle])


def test_a_successor_of_a_worker_that_is_gone(workers: Workers) -> None:
    """It is in the process group of the others, and any process can look at it, read its log and end it."""
    pausing = workers.start("successor")
    _, successor, group, _ = workers.say()
    wait_for_end(number(pausing))
    assert workers.provider.poll([pausing, successor]) == {pausing: "succeeded", successor: "running"}
    assert group == number(pausing)
    second = workers.start("successor", rank=3)
    _, _, same, _ = workers.say()
    assert same == group == os.getpgid(number(successor))
    assert group != os.getpgrp()
    other = LocalProvider(LocalOptions())
    wait_for_end(number(second))
    assert other.poll([pausing, successor]) == {pausing: "failed: its process is gone", successor: "running"}
    assert list(other.logs(workers.deployment, "successor", 7, 0.0)) == ["rank 7 stdin True"] * 2
    assert len(list(other.logs(workers.deployment, "successor", None, 0.0))) == 4
    there = os.pidfd_open(number(successor))
    other.cancel(workers.deployment, "successor", [])
    assert select.select([there], [], [], WAIT_S)[0]  # nobody has told cancel which process it is to wait for
    os.close(there)
    assert other.poll([successor]) == {successor: "failed: its process is gone"}
    assert list(processes.find(f"successor/{workers.deployment['token']}")) == []
    other.teardown(workers.deployment)
    assert not Path(workers.deployment["logs"]).exists()


def test_a_new_group_is_made_where_the_old_one_has_ended(workers: Workers) -> None:
    first = workers.start("end")
    wait_for_end(number(first))
    workers.provider.poll([first])  # waits for it: its group is no more
    second = workers.start("pause")
    _, said, group, _ = workers.say()
    assert said == second
    assert group == number(second)


def test_a_worker_knows_how_much_time_it_has(workers: Workers) -> None:
    """It counts from the start of the process."""
    workers.deploy(10_000.0)
    handle = workers.start("pause")
    _, said, _, seconds = workers.say()
    assert said == handle
    assert 0 < seconds < 10_000.0
    assert workers.launcher.remaining_s() == float("inf")  # this process is no worker


def test_a_worker_is_ended_when_its_time_is_up(workers: Workers) -> None:
    """By the kernel, whatever it does: it may not even have begun."""
    workers.deploy(1.0)
    handle = workers.start("pause")
    wait_for_end(number(handle))
    assert workers.provider.poll([handle]) == {handle: "failed: killed by SIGALRM"}


def test_the_environment_of_a_successor_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere:/elsewhere")
    once = worker_environment()
    for name, value in once.items():
        monkeypatch.setenv(name, value)
    assert worker_environment()["PYTHONPATH"] == once["PYTHONPATH"]


def test_the_environment_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    env = worker_environment()
    assert env["PYTHONHASHSEED"] == "0"
    assert env["OPENBLAS_NUM_THREADS"] == env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_numpy_says_nothing_about_it_and_uses_no_avx512() -> None:
    code = "import json, numpy as np; print(json.dumps(np.show_config(mode='dicts')['SIMD Extensions']['found']))"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=worker_environment(), check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert not [name for name in found if "AVX512" in name or name == "X86_V4"]
    flags = Path("/proc/cpuinfo").read_text()
    assert platform.machine() != "x86_64" or "avx2" not in flags or {"AVX2", "X86_V3"} & {*found, "AVX2"}


def test_a_worker_runs_the_code_of_its_driver(tmp_path: Path) -> None:
    """From a checkout that is not installed, in any directory."""
    code = "import lambdaml_core; print(lambdaml_core.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=worker_environment(), cwd=tmp_path, check=True)
    import lambdaml_core

    assert done.stdout.strip() == lambdaml_core.__file__
