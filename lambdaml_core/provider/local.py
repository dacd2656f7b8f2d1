"""``local``: a fresh Python process per worker on this machine, as a function would be."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import platform
import re
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import lambdaml_core
from lambdaml_core.builtin import LocalOptions
from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.provider.baseline import DISABLED, baseline
from lambdaml_core.provider.limited import remaining_s

if TYPE_CHECKING:  # a worker's start is paid for, and few workers start another
    import subprocess

_FOLDER = re.compile("lambdaml-logs-[0-9a-f]{16}")  # the token of a deployment
_log = logging.getLogger("lambdaml")

Children: TypeAlias = "dict[str, tuple[str, subprocess.Popen[bytes]]]"
"""Those that this process has started itself, by handle, with the mark of each: it is told how they ended."""


class LocalProvider:
    """Workers with one fingerprint: their BLAS kernels, numpy's SIMD level and thread counts are pinned.

    All workers of a run are in one process group, which is not the driver's, so that a Ctrl-C in the terminal reaches
    the driver alone. A mark in their environment tells any process of the machine whose they are.
    """

    def __init__(self, options: LocalOptions) -> None:
        self.options = options
        self._children: Children = {}

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """``processes`` to be started, ``token`` to know them by, and ``usd``."""
        return {
            "entry": job["entry"],
            "processes": job["workers"],
            "scope": "host",
            "max_duration_s": self.options.max_duration_s,
            "token": secrets.token_hex(8),
            "usd": 0.0,
            "usd_per_worker_s": 0.0,
        }

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """A place for the logs is chosen; the first launch makes it, when the deployment is known to others."""
        import tempfile

        logs = Path(tempfile.gettempdir(), f"lambdaml-logs-{plan['token']}")
        return {name: plan[name] for name in ("entry", "max_duration_s", "token")} | {"logs": str(logs)}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return LocalLauncher(deployment, self._children)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """As the contract; of a process that another one started, only whoever started it knows how it ended."""
        return {handle: self._state(handle) for handle in handles}

    def _state(self, handle: str) -> str:
        if handle in self._children:
            _, child = self._children[handle]
            return _outcome(child.poll())
        state = processes.state_of(handle)
        return "failed: its process is gone" if state == "ended" else state

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        found = (_logs(deployment) / run).glob("*.log")
        for numbers, path in sorted((tuple(map(int, path.stem.split("-"))), path) for path in found):
            if rank in (None, numbers[0]) and path.stat().st_mtime >= since_s:
                yield from path.read_text(errors="replace").splitlines()

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        """SIGTERM to everything that the run's workers are and have started, SIGKILL to what is left two seconds later.

        They are found by their mark, so that none is missed that nobody has a handle of.
        """
        mark = _mark(deployment, run)
        left = processes.end_all(lambda: list(processes.find(mark)))
        if left:
            _log.warning("processes of the run %s hang in the kernel: %s", run, ", ".join(left))
        for handle, (its, child) in self._children.items():
            if its == mark and handle not in left:
                child.wait()  # it has given up its environment, and may not have ended
        processes.await_end(handles)

    def kill(self, handle: str) -> bool:
        """SIGKILL to this process alone."""
        return processes.send(handle, signal.SIGKILL)

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        """Removes the logs."""
        import shutil

        shutil.rmtree(_logs(deployment), ignore_errors=True)
        return []


class LocalLauncher:
    """Starts workers with this interpreter."""

    def __init__(self, deployment: Mapping[str, Any], children: Children) -> None:
        self._deployment = deployment
        self._logs = _logs(deployment)
        self._children = children
        self._last: str | None = None

    def launch(self, ref: WorkerRef) -> str:
        """Start ``python -m <module> <ref as JSON>``; a handle of :mod:`~lambdaml_core.provider.processes`."""
        mark = _mark(self._deployment, ref.run)
        env = worker_environment() | {processes.MARK: mark}
        path = self._logs / ref.run / f"{ref.rank}-{ref.generation}-{ref.attempt}.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab") as log:
            try:
                process = _start(self._command(ref), env, log, self._group(mark))
            except PermissionError:  # that group has ended meanwhile, or is of another terminal
                process = _start(self._command(ref), env, log, 0)
        self._last = processes.handle_of(process.pid)
        self._children[self._last] = (mark, process)
        return self._last

    def _command(self, ref: WorkerRef) -> list[str]:
        module = str(self._deployment["entry"]).partition(":")[0]
        words = [module, json.dumps(ref._asdict())]
        if self._deployment["max_duration_s"] is not None:
            words = ["lambdaml_core.provider.limited", str(self._deployment["max_duration_s"]), *words]
        return [sys.executable, "-m", *words]

    def _group(self, mark: str) -> int:
        """The process group of the run's workers; 0 = a new one, where none runs."""
        if os.environ.get(processes.MARK) == mark:
            return os.getpgrp()
        last = [] if self._last is None else [self._last]
        groups = (processes.group_of(handle) for handle in itertools.chain(last, processes.find(mark)))
        return next(filter(None, groups), 0)

    def handle(self) -> str:
        return processes.handle_of()

    def remaining_s(self) -> float:
        """Of this process; infinity in one that is not a worker, whose timers mean something else."""
        limited = self._deployment["max_duration_s"] is not None and processes.MARK in os.environ
        return remaining_s() if limited else math.inf


def _logs(deployment: Mapping[str, Any]) -> Path:
    """The folder of the logs. Others may write to a store too, so not any folder that they name is taken for it.

    Raises:
        ValueError: it is none that :meth:`LocalProvider.deploy` chooses.
    """
    path = Path(deployment["logs"])
    if not (path.is_absolute() and _FOLDER.fullmatch(path.name)):
        raise ValueError(f"{path} is no folder for logs of this run")
    return path


def _mark(deployment: Mapping[str, Any], run: str) -> str:
    """What the run's workers, and nobody else's, have in their environment."""
    return f"{run}/{deployment['token']}"


def _start(command: Sequence[str], env: Mapping[str, str], log: IO[bytes], group: int) -> subprocess.Popen[bytes]:
    import subprocess

    return subprocess.Popen(  # noqa: S603  (this interpreter, no shell)
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, process_group=group
    )


def _outcome(code: int | None) -> str:
    if code is None:
        return "running"
    if code == 0:
        return "succeeded"
    return "failed" if code > 0 else f"failed: killed by {signal.Signals(-code).name}"


def worker_environment() -> dict[str, str]:
    """This environment, with all pinned that decides in which order a worker adds floating-point numbers: the
    :func:`~lambdaml_core.provider.baseline.baseline`, as far as this machine's processor has it."""
    machine = platform.machine()
    if machine == "x86_64" and not _processor_flags() >= {"avx2", "fma"}:
        machine = "older than the baseline"
    env = os.environ | baseline(machine)
    disabled = f"{os.environ.get(DISABLED, '')} {env.get(DISABLED, '')}".replace(",", " ").split()
    if disabled:
        env[DISABLED] = " ".join(dict.fromkeys(disabled))
    env.setdefault("PYTHONFAULTHANDLER", "1")  # a crash in native code says in the log where it was
    env["PYTHONPATH"] = import_path()
    return env


def import_path() -> str:
    """The ``PYTHONPATH`` of a process that is to run the same code, which may be a checkout that is not installed."""
    package = Path(lambdaml_core.__file__).parents[1]
    mine = [] if package.name in ("site-packages", "dist-packages") else [str(package)]
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))  # of a worker, the package among them
    return os.pathsep.join(dict.fromkeys([*mine, *others]))


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
