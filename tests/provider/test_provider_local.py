"""``local``: fresh pinned processes, each a process group of its own."""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.provider.local import LocalProvider, worker_environment

WAIT_S = 60

SCRIPT = """
import json, os, signal, sys

def main(how):
    print("rank", json.loads(sys.argv[1])["rank"], "stdin", sys.stdin.read() == "", flush=True)
    if how == "fail":
        sys.exit(3)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork() if how == "parent" else os.getpid()
    if how != "end":
        if child:
            with open(os.environ["READY"], "w") as ready:
                ready.write(str(child))
        signal.pause()

main(json.loads(sys.argv[1])["run"])
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A program to run in place of a worker; the name of the run says what it does."""
    (tmp_path / "odd_worker.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    os.mkfifo(tmp_path / "ready")
    monkeypatch.setenv("READY", str(tmp_path / "ready"))
    return "odd_worker:main"


def start(entry: str, run: str) -> tuple[LocalProvider, dict[str, object], str, int]:
    provider = LocalProvider(NoOptions())
    deployment = dict(provider.deploy(provider.plan({"entry": entry, "workers": 1})))
    handle = provider.launcher(deployment).launch(WorkerRef("file:///none", {}, run, 7, 0, ""))
    return provider, deployment, handle, int(handle.rpartition("/")[2])


def wait_for_end(pid: int) -> None:
    fd = os.pidfd_open(pid)
    assert select.select([fd], [], [], WAIT_S)[0]
    os.close(fd)


@pytest.mark.parametrize(("run", "state"), [("end", "succeeded"), ("fail", "failed")])
def test_a_worker_that_ends(entry: str, run: str, state: str) -> None:
    provider, deployment, handle, pid = start(entry, run)
    wait_for_end(pid)
    assert provider.poll([handle, "0/0/1"]) == {handle: state, "0/0/1": "unknown"}
    assert list(provider.logs(run, 7, 0.0)) == ["rank 7 stdin True"]
    assert list(provider.logs(run, 0, 0.0)) == []
    assert list(provider.logs("other", None, 0.0)) == []
    provider.cancel(run)
    assert provider.teardown(deployment) == []
    assert not Path(str(deployment["logs"])).exists()


@pytest.mark.parametrize("run", ["pause", "stubborn", "parent"])
def test_cancelling(entry: str, run: str) -> None:
    """Whatever the worker does about SIGTERM, and with what it has started."""
    provider, deployment, handle, pid = start(entry, run)
    with open(os.environ["READY"]) as ready:  # noqa: PTH123  (a fifo: opens when the worker writes)
        deepest = os.pidfd_open(int(ready.read()))
    assert provider.poll([handle]) == {handle: "running"}
    assert os.getpgid(pid) == pid != os.getpgid(0)
    provider.cancel("another run")
    assert provider.poll([handle]) == {handle: "running"}
    provider.cancel(run)
    killer = "SIGKILL" if run == "stubborn" else "SIGTERM"
    assert provider.poll([handle]) == {handle: f"failed: killed by {killer}"}
    assert select.select([deepest], [], [], WAIT_S)[0]
    os.close(deepest)
    provider.cancel(run)
    provider.teardown(deployment)


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
