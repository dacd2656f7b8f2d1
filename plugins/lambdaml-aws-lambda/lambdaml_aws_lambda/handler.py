"""What a function runs: ``handle(event, context)``. An event is the reference to a worker, or a question whether
workers would find what they need (:mod:`lambdaml_aws_lambda.probe`).

It answers with a little JSON whatever happens, since AWS would take an error for a reason to try again, and prints a
line of JSON before and after a worker's own: what is known of an invocation is found by these in the logs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from lambdaml_aws_lambda import secret
from lambdaml_aws_lambda.launcher import AwsLambdaLauncher, handle_of
from lambdaml_aws_lambda.shapes import ENTRY
from lambdaml_core import __version__
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.worker.timing import process_age_s

BEGIN, END = "begin", "end"
"""The ``event`` of a worker's first line and of its last."""


class Context(Protocol):
    """What AWS says of an invocation."""

    aws_request_id: str
    function_name: str
    memory_limit_in_mb: str

    def get_remaining_time_in_millis(self) -> int: ...


def _load() -> tuple[Callable[..., int], dict[str, float]]:
    """Import what every worker needs, before the first event comes. Returns what runs one, and the seconds of it."""
    before = process_age_s() or 0.0
    began = time.perf_counter()
    module, _, name = os.environ.get(ENTRY, "lambdaml_core.run.worker.worker:run_worker").partition(":")
    entry = getattr(import_module(module), name)
    return entry, {"before_s": before, "import_s": time.perf_counter() - began}


_run_worker, _START = _load()
_cold = True


def handle(event: Any, context: Context) -> dict[str, Any]:
    """Do what the event says.

    Args:
        event: a :class:`WorkerRef` as JSON, or ``{"probe": ...}``.

    Returns:
        For a worker ``{"code": 0}``, or 1 where it failed, and ``error`` where that is in no record of the run; for a
        question, what :func:`lambdaml_aws_lambda.probe.answer` says.
    """
    global _cold
    cold, _cold = _cold, False
    began = time.perf_counter()
    age_s = (process_age_s() or 0.0) if cold else 0.0
    try:
        if isinstance(event, Mapping) and "probe" in event:
            return _answer(event["probe"], context)
        return _work(_reference(event), context, cold=cold, age_s=age_s + time.perf_counter() - began)
    except Exception as e:  # noqa: BLE001  (AWS would print where it was raised, and has no use for it)
        said = f"{type(e).__name__}: {e}" if not isinstance(e, LambdaMLError) else e.message
        _print({"event": "error", "request": context.aws_request_id, "error": said})
        return {"code": 1, "error": said}


def _reference(event: Any) -> WorkerRef:
    if not (isinstance(event, Mapping) and set(event) == set(WorkerRef._fields)):
        raise ValueError(f"an event has {', '.join(WorkerRef._fields)}")
    return WorkerRef(**event)


def _answer(question: Any, context: Context) -> dict[str, Any]:
    from lambdaml_aws_lambda.probe import answer

    about = {"versions": _versions(), "memory_mb": int(context.memory_limit_in_mb), "seconds": _START}
    return about | answer(question["places"], limit_s=context.get_remaining_time_in_millis() / 1000)


def _work(ref: WorkerRef, context: Context, *, cold: bool, age_s: float) -> dict[str, Any]:
    """Run a worker between two records of it."""
    request, region, function = context.aws_request_id, os.environ["AWS_REGION"], context.function_name
    launcher = AwsLambdaLauncher(
        region,
        function,
        _client,
        handle=handle_of(region, function, request),
        remaining_s=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    who = {"run": ref.run, "generation": ref.generation, "rank": ref.rank, "attempt": ref.attempt, "request": request}
    start = {**_START, "age_s": age_s} if cold else {"age_s": age_s}
    _print(
        {
            "event": BEGIN,
            **who,
            "cold": cold,
            "memory_mb": int(context.memory_limit_in_mb),
            "remaining_s": launcher.remaining_s(),
            "start": _rounded(start),
            "versions": _versions(),
        }
    )
    began = time.perf_counter()
    secret.load(os.environ)
    with launcher.in_time():
        code = _run_worker(ref, launcher=launcher, age_s=age_s)
    used_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    seconds = _rounded({"seconds": time.perf_counter() - began})
    _print({"event": END, **who, "code": code, **seconds, "used_mb": used_mb, "launch_retries": launcher.retries})
    return {"code": code}


def _client() -> Any:
    from lambdaml_aws_lambda.client import Client
    from lambdaml_aws_lambda.options import AwsLambdaOptions

    return Client(AwsLambdaOptions(region=os.environ["AWS_REGION"]), tries=1)


def _versions() -> dict[str, str]:
    import numpy as np

    return {"lambdaml": __version__, "python": platform.python_version(), "numpy": np.__version__}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _print(record: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(record)}\n")
    sys.stdout.flush()
