"""Asynchronous runs over servers: slots are created, overwritten, waited for and deleted on each of them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers_help import LONG, SIZE, harmed, late, train

from lambdaml_core.provider import processes
from lambdaml_core.run.records.ranks import read_processes
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.run.spec import run_store
from lambdaml_core.storage import open_storage
from lambdaml_dynamodb.testing import dynamodb_server
from lambdaml_memcached.testing import memcached_server
from lambdaml_redis.testing import redis_server, valkey_server
from lambdaml_s3.testing import s3_server

GA: dict[str, Any] = {"name": "ga_sgd", "learning_rate": 0.3, "asynchronous": True}
Start = Callable[[], contextlib.AbstractContextManager[Any]]


@pytest.mark.parametrize("start", [redis_server, valkey_server, memcached_server, s3_server, dynamodb_server])
@pytest.mark.parametrize("staleness", [None, 2])
def test_a_run(start: Start, staleness: int | None, tmp_path: Path) -> None:
    """Its slots are of several pieces on those that take no large values."""
    with start() as server:
        record = train(tmp_path.as_uri(), server.url, optimizer={**GA, "staleness": staleness})
    figures = record["round_figures"]
    assert record["status"] == "succeeded"
    assert (figures["updates"] or 0) >= 20 * SIZE
    assert staleness is None or (figures["staleness_max"] or 0) <= staleness
    assert (record["train_loss"] or 1) < 0.5


def test_slots_larger_than_a_value(tmp_path: Path) -> None:
    """Of 400 KB there."""
    with dynamodb_server() as server:
        record = train(tmp_path.as_uri(), server.url, features=60_000, rounds=4, batch_size=13, optimizer=GA)
    assert record["status"] == "succeeded"


@pytest.mark.parametrize("start", [redis_server, memcached_server])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_is_killed(start: Start, rank: int, tmp_path: Path) -> None:
    """One storage can list what is there, and one cannot."""
    store = tmp_path.as_uri()

    def kill() -> None:
        (run,) = list_runs(store)
        with contextlib.closing(open_storage(store)) as opened:
            _, handle = read_processes(run_store(opened, run["run"]), 0)[rank]
        assert processes.send(handle, signal.SIGKILL)

    with start() as server:
        record = harmed(store, late(server.url), kill, optimizer=GA, provider="local")
    assert (record["status"], record["restarts"], record["generation"]) == ("succeeded", 1, 0)
    assert (record["round_figures"]["updates"] or 0) >= LONG["rounds"] * SIZE
