"""How runs on functions end that do not succeed: by one line that says why, and with nothing left."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from aws_help import LIMIT_S, SIZE, functions, late, left, make_job, points, train

from lambdaml_aws_lambda import provider
from lambdaml_aws_lambda.testing import EARLY_S, AwsServer, aws_server
from lambdaml_core.errors import RunCancelled, WorkerFailed
from lambdaml_core.run.driver import remote
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.driver.remote import cancel_run, read_logs
from lambdaml_core.run.records.records import RunRecord, list_runs, read_run


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsServer]:
    with aws_server(early=True) as server:
        yield server


def newest(aws: AwsServer) -> RunRecord:
    return read_run(aws.url, max(str(record["run"]) for record in list_runs(aws.url)))


def test_the_reason_of_a_worker_is_that_of_the_run(aws: AwsServer) -> None:
    with pytest.raises(WorkerFailed, match="does not fit into it") as e:
        train(**functions(aws, max_duration_s=LIMIT_S + EARLY_S), optimizer={"name": "ma_sgd", "local_steps": 10**7})
    assert e.value.hint
    record = newest(aws)
    assert record["status"] == "failed"
    assert "does not fit into it" in str(record["stop_reason"])
    assert left(aws) == []


def test_out_of_memory(aws: AwsServer) -> None:
    x = np.ones((16, 2_000_000), np.float32)  # 128 MB
    job = make_job(**functions(aws, memory_mb=224), workers=1, rounds=2, recovery={"restarts": 1, "heartbeat_s": 1.0})
    with pytest.raises(WorkerFailed) as e:
        run_job(job, arrays=(x, np.arange(16) % 2))
    assert re.search(
        "worker 0 .* (out of memory, its 224 MB: .*provider.memory_mb|[Uu]nable to allocate)", str(e.value)
    )
    assert left(aws) == []


def test_cancelled_from_elsewhere(aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((provider, "_END_S"), (remote, "_CANCEL_S")):  # that workers and drivers may take to end
        monkeypatch.setattr(module, name, 240.0)
    threads: list[threading.Thread] = []

    def cancel(event: Event) -> None:
        if event["event"] == "progress" and not threads:
            threads.append(threading.Thread(target=cancel_run, args=(aws.url, event["run"])))
            threads[0].start()

    job = make_job(**functions(aws), channel=late(aws.url, 0.04), rounds=10_000)
    with pytest.raises(RunCancelled):
        run_job(job, arrays=points(), on_event=cancel)
    threads[0].join()
    record = newest(aws)
    assert record["status"] == "cancelled"
    assert left(aws) == []
    ended = {rank for rank, line in read_logs(aws.url, str(record["run"])) if '"event": "end"' in line}
    assert ended == set(range(SIZE)), "the function is removed when all of its workers have ended"
