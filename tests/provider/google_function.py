"""A function of Google's functions framework that is a worker: what it serves, and its half of a provider.

An instance takes one request at a time and is warm for the next; it is ended when a request takes too long. A successor
is a request to the function's own address, whose answer nobody waits for.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.worker.worker import run_worker

if TYPE_CHECKING:
    from flask import Request

DEPLOYMENT = "LAMBDAML_TEST_FUNCTION"
"""The variable by which a function knows itself."""

_CONNECT_S = 10.0


class FunctionLauncher:
    """Invokes the function, in a driver, or in the function itself.

    Args:
        deployment: of it.
        execution: the request that is being served; none in a driver.
        end: when that is ended, by ``time.monotonic``.
    """

    def __init__(self, deployment: Mapping[str, Any], execution: str = "", end: float = math.inf) -> None:
        self._deployment, self._execution, self._end = deployment, execution, end

    def launch(self, ref: WorkerRef) -> str:
        """Send the request, and hang up; a handle is ``SERVICE/EXECUTION``, which the framework puts into the log."""
        execution = secrets.token_hex(8)
        headers = {"Content-Type": "application/json", "Function-Execution-Id": execution}
        connection = http.client.HTTPConnection(self._deployment["host"], timeout=_CONNECT_S)
        try:
            connection.request("POST", "/", json.dumps(ref._asdict()), headers)
        finally:
            connection.close()
        return self._handle(execution)

    def handle(self) -> str:
        return self._handle(self._execution)

    def remaining_s(self) -> float:
        return self._end - time.monotonic()

    def _handle(self, execution: str) -> str:
        return f"{self._deployment['service']}/{execution}"


def work(request: Request) -> tuple[dict[str, Any], int]:
    """What the framework calls for each request: the whole of it is a reference, or nothing, to see whether it serves.

    The framework makes each line that is printed an entry of the log and puts the execution into it.
    """
    if request.method == "GET":
        return {}, 200
    began = time.monotonic()
    deployment = json.loads(os.environ[DEPLOYMENT])
    ref = WorkerRef(**request.get_json())
    launcher = FunctionLauncher(
        deployment, request.headers["Function-Execution-Id"], began + deployment["max_duration_s"]
    )

    def log(text: str) -> None:
        for line in text.splitlines():
            print(json.dumps({"message": line, "run": ref.run, "rank": ref.rank}))

    print(json.dumps({"state": "running", "process": os.getpid()}))
    code = run_worker(ref, launcher=launcher, log=log, age_s=0.0)
    print(json.dumps({"state": "failed" if code else "succeeded"}))
    return {"code": code}, 500 if code else 200
