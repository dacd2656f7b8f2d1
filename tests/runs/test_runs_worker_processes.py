"""Workers as processes, without a driver: killed, stopped and woken."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from held_runs import Gate, held
from workers_help import RUN, Run

from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Launcher
from lambdaml_core.run.code import pack
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.records.attempts import beat_key, claim_key, end_key
from lambdaml_core.run.spec import CODE, get_all_json

MA: dict[str, Any] = {"name": "ma_sgd", "learning_rate": 0.1, "local_steps": 5, "momentum": 0.9, "keep_momentum": True}
JOB: dict[str, Any] = {"rounds": 250, "workers": 2, "optimizer": MA, "checkpoint": {"rounds": 20}}


class Processes:
    """The processes of a run, which stand still half-way if there is a gate: else it might end before it is harmed."""

    def __init__(self, folder: Path, gate: Gate | None = None) -> None:
        own = {} if gate is None else {"optimizer": MA | {"name": "own_ma_sgd"}, "code": gate.code}
        self.run = Run(folder, **(JOB | own), provider="local")
        if gate is not None:
            code = pack(gate.code)
            self.run.store.put(CODE, [code.data])
            self.run.change(code=code.sha256)
        self.launcher: Launcher = self.run.provider.launcher(self.run.deployment)
        self.handles: list[str] = []

    def launch(self, rank: int, attempt: int = 0) -> str:
        self.handles.append(self.launcher.launch(self.run.ref(rank, attempt)))
        return self.handles[-1]

    def record(self, key: str) -> dict[str, Any] | None:
        return get_all_json(self.run.store, [key]).get(key)

    def until(self, happened: Callable[[], Any]) -> Any:
        """Wait for something."""
        end = time.monotonic() + 120
        while not (found := happened()):
            assert time.monotonic() < end, self.run.read("errors/")
            time.sleep(0.01)
        return found

    def until_round(self, rank: int, round: int, attempt: int = 0) -> None:
        """Until a rank has said that it is so far."""

        def is_there() -> bool:
            beat = self.record(beat_key(0, rank))
            return beat is not None and (beat["attempt"], beat["round"]) >= (attempt, round)

        self.until(is_there)

    def ended(self) -> bool:
        return all(self.record(end_key(0, rank)) for rank in range(2))

    def close(self) -> None:
        provider = self.run.provider
        provider.cancel(self.run.deployment, RUN, self.handles)
        provider.poll(self.handles)
        provider.teardown(self.run.deployment)
        self.run.root.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with held(tmp_path, JOB["rounds"] // 2) as gate:
        yield gate


@pytest.fixture
def started(tmp_path: Path, gate: Gate) -> Iterator[Processes]:
    workers = Processes(tmp_path / "run", gate)
    try:
        for rank in range(2):
            workers.launch(rank)
        yield workers
    finally:
        workers.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> str:
    workers = Processes(tmp_path_factory.mktemp("quiet"))
    try:
        for rank in range(2):
            workers.launch(rank)
        workers.until(workers.ended)
        return str(workers.run.result()["files"][WEIGHTS])
    finally:
        workers.close()


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
    workers.until(workers.ended)
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
    workers.until(workers.ended)
    workers.until(lambda: workers.run.provider.poll([old])[old] == "succeeded")
    check(workers, quiet)


def test_the_claims_are_the_registry(started: Processes, gate: Gate) -> None:
    workers = started
    gate.let_go()
    workers.until(workers.ended)
    claims = [workers.record(claim_key(0, rank, 0)) for rank in range(2)]
    assert [claim and claim["handle"] for claim in claims] == workers.handles
