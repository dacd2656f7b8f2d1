"""Correct providers of unusual shape."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.provider.inline import InlineLauncher, InlineProvider
from lambdaml_core.provider.local import worker_environment


class FireAndForget:
    """Starts processes of which it never hears again: it can neither look at them nor end them, and has no logs."""

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"entry": job["entry"], "scope": "host", "max_duration_s": None}

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"entry": plan["entry"]}

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _Forgetting(deployment)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(handles, "unknown")

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        return iter(())

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        pass

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        return []


class _Forgetting:
    def __init__(self, deployment: Mapping[str, Any]) -> None:
        self._module = str(deployment["entry"]).partition(":")[0]

    def launch(self, ref: WorkerRef) -> str:
        words = [sys.executable, "-m", self._module, json.dumps(ref._asdict())]
        env = worker_environment() | {"HANDLE": f"somewhere/{ref.rank}"}
        subprocess.run(
            ["sh", "-c", '"$@" > /dev/null 2>&1 < /dev/null &', "sh", *words],
            env=env,
            start_new_session=True,
            check=True,
        )
        return env["HANDLE"]

    def handle(self) -> str:
        return os.environ["HANDLE"]

    def remaining_s(self) -> float:
        return math.inf


class StartsTwice(InlineProvider):
    """As clouds do now and then; the handle is that of the second."""

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _StartingTwice(deployment, self._threads)


class _StartingTwice(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        super().launch(ref)
        return super().launch(ref)


class StartsLate(InlineProvider):
    """The handle is there long before the worker is."""

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _StartingLate(deployment, self._threads)


class _StartingLate(InlineLauncher):
    def _work(self, worker: Any, handle: str) -> None:
        threading.Event().wait(0.3)
        super()._work(worker, handle)
