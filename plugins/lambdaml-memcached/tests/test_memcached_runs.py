"""Runs whose messages the server drops for want of memory, and runs that would be kept in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memcached_help import figure

from lambdaml_core.errors import NotSupported, WorkerFailed
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord, list_runs
from lambdaml_memcached.testing import memcached_server

FEATURES = 1_000_000
"""So many that a message has 8 MB, and a round of 3 ranks moves 24 MB at least."""


def train(store: str, channel: str | None, **recovery: Any) -> RunRecord:
    """Two rounds of three threads, which are soon to notice that something is lost."""
    x = np.random.default_rng(0).normal(size=(6, FEATURES)).astype(np.float32)
    values: dict[str, Any] = {
        "store": store,
        "channel": channel,
        "workers": 3,
        "provider": "inline",
        "batch_size": 3,
        "rounds": 2,
        "optimizer": {"name": "ga_sgd", "learning_rate": 0.3},
        "recovery": {"deadline_s": 2.0, "heartbeat_s": 0.2, **recovery},
    }
    return run_job(Job.from_mapping(values), arrays=(x, (x[:, 0] > 0).astype(np.int64)))


def test_messages_that_are_evicted_are_created_again(tmp_path: Path) -> None:
    """The model is that of a channel with room for all of them, and nothing stays in the server."""
    quiet = train((tmp_path / "quiet").as_uri(), None)
    with memcached_server(memory_mb=12) as server:
        record = train((tmp_path / "evicted").as_uri(), server.url)
        assert figure(server, "evictions") > 0
        assert figure(server, "curr_items") == 0
    assert record["model_sha256"] == quiet["model_sha256"]


def test_a_server_that_is_far_too_small_ends_the_run_in_words(tmp_path: Path) -> None:
    """It evicts, or has no room for two messages that are on their way at once."""
    with memcached_server(memory_mb=2) as server:
        with pytest.raises(WorkerFailed, match=r"messages were lost|Out of memory") as failed:
            # the first loss ends it, and no thread is silent for so long: that would end it in other words
            train(tmp_path.as_uri(), server.url, restarts=0, deadline_s=10.0)
        assert "more memory" in str(failed.value.hint)
    assert [record["status"] for record in list_runs(tmp_path.as_uri())] == ["failed"]


def test_it_is_no_store(tmp_path: Path) -> None:
    """Refused before anything starts, with the reason."""
    with memcached_server() as server:
        with pytest.raises(NotSupported, match="memcached"):
            train(server.url, None)
        assert figure(server, "total_items") == 0
