"""``local``: a fresh Python process per worker on this machine, as a function would be."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lambdaml_core
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, WorkerRef

_GRACE_S = 2.0  # between SIGTERM and SIGKILL
_BASELINE = {"avx2", "fma"}  # what OpenBLAS's Haswell kernels need


class LocalProvider:
    """Workers with one fingerprint: their BLAS kernels, numpy's SIMD level and thread counts are pinned.

    Each worker leads a process group, so that a Ctrl-C in the terminal reaches the driver alone.
    """

    def __init__(self, options: NoOptions) -> None:
        self._workers: dict[str, tuple[WorkerRef, subprocess.Popen[bytes]]] = {}
        self._logs: Path | None = None

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """``processes`` to be started, and ``usd``."""
        return {"entry": job["entry"], "processes": job["workers"], "scope": "host", "usd": 0.0}

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """A directory for the logs."""
        if self._logs is None:
            self._logs = Path(tempfile.mkdtemp(prefix="lambdaml-logs-"))
        return {"entry": plan["entry"], "logs": str(self._logs)}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return LocalLauncher(deployment, self._workers)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """As the contract; workers that this object did not start are ``unknown``."""
        return {h: _state(self._workers[h][1].poll()) if h in self._workers else "unknown" for h in handles}

    def logs(self, run: str, rank: int | None, since_s: float) -> Iterator[str]:
        for ref, _ in list(self._workers.values()):
            if self._logs is None or ref.run != run or rank not in (None, ref.rank):
                continue
            path = _log_file(self._logs, ref)
            if path.exists() and path.stat().st_mtime >= since_s:
                yield from path.read_text(errors="replace").splitlines()

    def cancel(self, run: str) -> None:
        """SIGTERM to each worker's process group, and SIGKILL to what is left two seconds later."""
        processes = [p for ref, p in self._workers.values() if ref.run == run and p.poll() is None]
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        give_up = time.monotonic() + _GRACE_S
        for process in processes:
            try:
                process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        """Removes the logs."""
        if self._logs is not None:
            shutil.rmtree(self._logs, ignore_errors=True)
            self._logs = None
        return []


class LocalLauncher:
    """Starts workers with this interpreter."""

    def __init__(
        self, deployment: Mapping[str, Any], workers: dict[str, tuple[WorkerRef, subprocess.Popen[bytes]]]
    ) -> None:
        self._module = str(deployment["entry"]).partition(":")[0]
        self._logs = Path(deployment["logs"])
        self._workers = workers
        self._lock = threading.Lock()

    def launch(self, ref: WorkerRef) -> str:
        """Start ``python -m <module> <ref as JSON>``; the handle is ``<rank>/<attempt>/<process id>``."""
        with _log_file(self._logs, ref).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  (this interpreter, no shell)
                [sys.executable, "-m", self._module, json.dumps(ref._asdict())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(),
                process_group=0,
            )
        handle = f"{ref.rank}/{ref.attempt}/{process.pid}"
        with self._lock:
            self._workers[handle] = (ref, process)
        return handle

    def remaining_s(self) -> float:
        return math.inf


def worker_environment() -> dict[str, str]:
    """This environment, with all pinned that decides in which order a worker adds floating-point numbers.

    One thread for each BLAS; on x86-64, where the processor has them, OpenBLAS's Haswell kernels and numpy without
    AVX-512, so that machines of several generations give the same bytes.
    """
    env = dict(os.environ)
    env.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONHASHSEED="0")
    if platform.machine() == "x86_64" and _processor_flags() >= _BASELINE:
        env["OPENBLAS_CORETYPE"] = "Haswell"
        disabled = [*env.get("NPY_DISABLE_CPU_FEATURES", "").replace(",", " ").split(), *_beyond_avx2()]
        env["NPY_DISABLE_CPU_FEATURES"] = " ".join(disabled)
    package = Path(lambdaml_core.__file__).parents[1]
    if package.name not in ("site-packages", "dist-packages"):  # a checkout: the worker runs the same code
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), env.get("PYTHONPATH")]))
    return env


def _beyond_avx2() -> list[str]:
    """What numpy would use here above AVX2. It warns about names that it does not know or the machine lacks."""
    import numpy as np

    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return [name for name in found if name.startswith("AVX512") or name == "X86_V4"]


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _state(code: int | None) -> str:
    if code is None:
        return "running"
    if code == 0:
        return "succeeded"
    return "failed" if code > 0 else f"failed: killed by {signal.Signals(-code).name}"


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _log_file(folder: Path, ref: WorkerRef) -> Path:
    return folder / f"{ref.rank}-{ref.attempt}.log"
