"""``inline``: a thread per worker in this process, for notebooks and tests.

The threads share this process's BLAS threads and its interpreter lock, so it shows how a run works and not how fast
it is; and its figures may differ in the last bits from those of ``local``, whose workers are pinned.
"""

from __future__ import annotations

import importlib
import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, WorkerRef


@dataclass
class _Thread:
    ref: WorkerRef
    stop: threading.Event = field(default_factory=threading.Event)
    lines: list[str] = field(default_factory=list)
    code: int | None = None
    thread: threading.Thread | None = None


class InlineProvider:
    """Calls ``entry(ref, stop=event, log=function, launcher=launcher)`` in a thread for each worker; it returns an exit
    code."""

    def __init__(self, options: NoOptions) -> None:
        self.options = options
        self._threads: dict[str, _Thread] = {}

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """``threads`` to be started, and ``usd``."""
        return {
            "entry": job["entry"],
            "threads": job["workers"],
            "scope": "process",
            "max_duration_s": None,
            "usd": 0.0,
            "usd_per_worker_s": 0.0,
        }

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing to be made."""
        return {"entry": plan["entry"]}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return InlineLauncher(deployment, self._threads)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {h: _state(self._threads[h].code) if h in self._threads else "unknown" for h in handles}

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        for worker in sorted(self._of(run), key=lambda worker: worker.ref.rank):
            if rank in (None, worker.ref.rank):
                yield from "\n".join(worker.lines).splitlines()

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        """Asks the workers to stop, which they see at the next round or wait, and waits for them."""
        while living := [worker for worker in self._of(run) if worker.thread is not None and worker.thread.is_alive()]:
            for worker in living:
                worker.stop.set()
            for worker in living:
                if worker.thread is not None:
                    worker.thread.join()

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        return []

    def _of(self, run: str) -> list[_Thread]:
        return [worker for worker in list(self._threads.values()) if worker.ref.run == run]


class InlineLauncher:
    """Starts threads, each with a launcher of its own."""

    def __init__(self, deployment: Mapping[str, Any], threads: dict[str, _Thread], handle: str = "") -> None:
        module, _, name = str(deployment["entry"]).partition(":")
        self._entry = getattr(importlib.import_module(module), name)
        self._deployment = deployment
        self._threads = threads
        self._handle = handle

    def launch(self, ref: WorkerRef) -> str:
        """Start a thread; the handle is ``run/generation/rank/attempt/``, and a number that tells duplicates apart."""
        worker = _Thread(ref)
        for number in itertools.count():
            handle = f"{ref.run}/{ref.generation}/{ref.rank}/{ref.attempt}/{number}"
            if self._threads.setdefault(handle, worker) is worker:
                break
        worker.thread = threading.Thread(target=self._work, args=(worker, handle), name=handle, daemon=True)
        worker.thread.start()
        return handle

    def handle(self) -> str:
        """Of the worker whose launcher this is; empty for the driver's."""
        return self._handle

    def remaining_s(self) -> float:
        return math.inf

    def _work(self, worker: _Thread, handle: str) -> None:
        code = 1
        try:
            launcher = type(self)(self._deployment, self._threads, handle)
            code = self._entry(worker.ref, stop=worker.stop, log=worker.lines.append, launcher=launcher)
        finally:
            worker.code = code


def _state(code: int | None) -> str:
    return "running" if code is None else "succeeded" if code == 0 else "failed"
