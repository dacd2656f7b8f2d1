"""A server that is gone for good, for longer than requests are tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers_help import LONG, harmed, late, model_of_files, one_line

from lambdaml_core.errors import WorkerFailed
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.records import list_runs
from lambdaml_redis.testing import redis_server


def test_a_server_that_is_gone_ends_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    store = tmp_path.as_uri()
    with redis_server() as server:
        with pytest.raises(WorkerFailed) as gone:
            harmed(store, late(server.url), server.kill, recovery={"restarts": 0})
        assert "tried again for" in one_line(gone.value)
        (record,) = list_runs(store)
        assert record["status"] == "failed"
        server.start()
        resumed = resume_run(store, record["run"])
    assert resumed["model_sha256"] == model_of_files(rounds=LONG["rounds"])
