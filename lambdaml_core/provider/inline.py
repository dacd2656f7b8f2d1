"""``inline``: a thread per worker in this process, for notebooks and tests.

The threads share this process's BLAS threads and its interpreter lock, so it shows how a run works and not how fast
it is; and its figures may differ in the last bits from those of ``local``, whose workers are pinned.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, WorkerRef

Log: TypeAlias = Callable[[str], None]


@dataclass
class _Thread:
    ref: WorkerRef
    stop: threading.Event = field(default_factory=threading.Event)
    lines: list[str] = field(default_factory=list)
    code: int | None = None
    thread: threading.Thread | None = None


class InlineProvider:
    """Calls ``entry(ref, stop=event, log=function)`` in a thread for each worker; it returns an exit code."""

    def __init__(self, options: NoOptions) -> None:
        self._threads: dict[str, _Thread] = {}

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """``threads`` to be started, and ``usd``."""
        return {"entry": job["entry"], "threads": job["workers"], "scope": "process", "usd": 0.0}

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing to be made."""
        return {"entry": plan["entry"]}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return InlineLauncher(deployment, self._threads)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return {h: _state(self._threads[h].code) if h in self._threads else "unknown" for h in handles}

    def logs(self, run: str, rank: int | None, since_s: float) -> Iterator[str]:
        for worker in self._threads.values():
            if worker.ref.run == run and rank in (None, worker.ref.rank):
                yield from "\n".join(worker.lines).splitlines()

    def cancel(self, run: str) -> None:
        """Asks the workers to stop, which they see at the next round or wait, and waits for them."""
        workers = [w for w in self._threads.values() if w.ref.run == run]
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            if worker.thread is not None:
                worker.thread.join()

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        return []


class InlineLauncher:
    """Starts threads."""

    def __init__(self, deployment: Mapping[str, Any], threads: dict[str, _Thread]) -> None:
        module, _, name = str(deployment["entry"]).partition(":")
        self._entry = getattr(importlib.import_module(module), name)
        self._threads = threads

    def launch(self, ref: WorkerRef) -> str:
        worker = _Thread(ref)
        handle = f"{ref.run}/{ref.rank}/{ref.attempt}"
        worker.thread = threading.Thread(target=self._work, args=(worker,), name=handle, daemon=True)
        self._threads[handle] = worker
        worker.thread.start()
        return handle

    def remaining_s(self) -> float:
        return math.inf

    def _work(self, worker: _Thread) -> None:
        code = 1
        try:
            code = self._entry(worker.ref, stop=worker.stop, log=worker.lines.append)
        finally:
            worker.code = code


def _state(code: int | None) -> str:
    return "running" if code is None else "succeeded" if code == 0 else "failed"
