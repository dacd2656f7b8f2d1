"""A run whose functions are killed, invoked twice and throttled trains the same model, and leaves none running."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_help import SIZE, functions, late, left, make_job, points, right_model
from aws_proxy import Answer, Request, behind

from lambdaml_aws_lambda.testing import EARLY_S, AwsServer
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.testing.provider_laws.stage import eventually

ROUNDS, EVERY = 60, 5
ALL = 1000
KILLS = {12: 1, 30: ALL}
"""By round: how many processes of functions are killed then."""
LATE_S = 0.06
LIMIT_S = 6
"""Shorter than the 2 late requests of each round are together, and so for each rank, on any machine."""
PATIENCE_S = 60.0
LATE = ("its successor has not begun",)
"""Reasons to start a worker again that a slow machine has without any harm."""


class Harm:
    """Throttles a share of all launches, and delivers each of the others twice."""

    def __init__(self) -> None:
        self.share = 0.0
        self.throttled = self.doubled = 0
        self._lock, self._random = threading.Lock(), random.Random(8)

    def __call__(self, request: Request, forward: Callable[[Request], Answer]) -> Answer:
        if not request.launches:
            return forward(request)
        with self._lock:
            throttled = self._random.random() < self.share
            self.throttled += throttled
            self.doubled += not throttled
        if throttled:
            said = {"Type": "User", "message": "Rate Exceeded.", "Reason": "ConcurrentInvocationLimitExceeded"}
            headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "TooManyRequestsException"}
            return Answer(429, headers, json.dumps(said).encode())
        forward(request)
        return forward(request)


@pytest.fixture
def harm() -> Harm:
    return Harm()


@pytest.fixture
def server(harm: Harm) -> Iterator[AwsServer]:
    with behind(harm, early=True) as server:
        yield server


def train(server: AwsServer, on_event: Callable[[Event], None] | None = None, **options: Any) -> RunRecord:
    """Each message is late, so that there is time for harm."""
    settings = functions(server, **options) | {
        "channel": late(server.url, LATE_S),
        "rounds": ROUNDS,
        "checkpoint": {"rounds": EVERY},
        "recovery": {"heartbeat_s": 0.5, "restarts": 8},
    }
    return run_job(make_job(**settings), arrays=points(), on_event=on_event)


def processes(server: AwsServer) -> list[int]:
    """Of functions, be they at work or warm."""
    wanted = {f"AWS_ENDPOINT_URL={server.endpoint}", "AWS_LAMBDA_RUNTIME_API"}
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_text().split("\0")
            if wanted <= {*variables, *(variable.partition("=")[0] for variable in variables)}:
                found.append(int(folder.name))
    return found


def test_killed_throttled_and_doubled(server: AwsServer, harm: Harm) -> None:
    harm.share = 0.5
    due = dict(KILLS)
    killed = 0

    def kill(event: Event) -> None:
        nonlocal killed
        while event["event"] == "progress" and due and event["round"] >= min(due):
            there = processes(server)
            victims = random.sample(there, min(len(there), due.pop(min(due))))
            killed += len(victims)
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    record = train(server, kill)
    assert record["model_sha256"] == right_model("ga_sgd", ROUNDS)
    assert record["exact"]
    assert killed > SIZE
    assert record["restarts"] >= SIZE
    assert harm.throttled > 0
    assert harm.doubled >= 2 * SIZE
    assert nothing_is_left(server)


def test_doubled_at_each_hand_over(server: AwsServer, harm: Harm) -> None:
    seen: list[Event] = []
    record = train(server, seen.append, max_duration_s=LIMIT_S + EARLY_S)
    assert record["model_sha256"] == right_model("ga_sgd", ROUNDS)
    assert record["exact"]
    assert [e for e in seen if e["event"] == "restarted" and not e["reason"].startswith(LATE)] == []
    assert record["successions"] >= SIZE
    assert harm.doubled >= 2 * SIZE
    assert nothing_is_left(server)


def nothing_is_left(server: AwsServer) -> bool:
    assert left(server) == []
    return eventually(lambda: None if processes(server) else True, "functions have ended", PATIENCE_S)
