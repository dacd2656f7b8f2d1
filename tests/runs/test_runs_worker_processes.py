"""Workers as processes, without a driver: killed, stopped and woken."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from held_runs import Gate, held
from worker_processes import Processes, started_processes

from lambdaml_core.provider import processes
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.records.attempts import claim_key, end_key

MA: dict[str, Any] = {"name": "ma_sgd", "learning_rate": 0.1, "local_steps": 5, "momentum": 0.9, "keep_momentum": True}
JOB: dict[str, Any] = {"rounds": 250, "workers": 2, "optimizer": MA, "checkpoint": {"rounds": 20}}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with held(tmp_path, JOB["rounds"] // 2) as gate:
        yield gate


@pytest.fixture
def started(tmp_path: Path, gate: Gate) -> Iterator[Processes]:
    keys = JOB | {"optimizer": MA | {"name": "own_ma_sgd"}}
    with started_processes(tmp_path / "run", gate, keys) as workers:
        yield workers


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> str:
    with started_processes(tmp_path_factory.mktemp("quiet"), None, JOB) as workers:
        workers.until_ended()
        return str(workers.run.result()["files"][WEIGHTS])


def check(workers: Processes, quiet: str) -> None:
    run = workers.run
    assert run.result()["files"][WEIGHTS] == quiet
    assert run.read("errors/") == {}
    told = [r for e in run.events("rounds") for r in range(e["first"], e["first"] + len(e["loss"]))]
    assert told == list(range(1, run.spec.rounds + 1))


@pytest.mark.parametrize("rank", [0, 1])
def test_killed(started: Processes, gate: Gate, quiet: str, rank: int) -> None:
    """Twice, the second time while it may still replay; events go on without gaps and without doubles."""
    workers = started
    for attempt, round in enumerate((30, 31)):
        workers.until_round(rank, round, attempt)
        assert processes.send(workers.handles[-1] if attempt else workers.handles[rank], signal.SIGKILL)
        workers.launch(rank, attempt + 1)
    gate.let_go()
    workers.until_ended()
    check(workers, quiet)
    assert workers.run.read(f"ends/0/{rank}")[end_key(0, rank)]["totals"]["attempts"] == 3


def test_stopped_and_woken(started: Processes, gate: Gate, quiet: str) -> None:
    """It is replaced meanwhile, and leaves by itself."""
    workers = started
    workers.until_round(0, 20)
    old = workers.handles[0]
    assert processes.send(old, signal.SIGSTOP)
    workers.launch(0, 1)
    workers.until_round(0, 40, attempt=1)
    assert processes.send(old, signal.SIGCONT)
    gate.let_go()
    workers.until_ended()
    workers.until(lambda: workers.run.provider.poll([old])[old] == "succeeded")
    check(workers, quiet)


def test_the_claims_are_the_registry(started: Processes, gate: Gate) -> None:
    workers = started
    gate.let_go()
    workers.until_ended()
    claims = [workers.record(claim_key(0, rank, 0)) for rank in range(2)]
    assert [claim and claim["handle"] for claim in claims] == workers.handles
