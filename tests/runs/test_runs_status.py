"""What has become of a run: by its records, and by processes that live and processes that were killed."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lambdaml_core.provider.processes import handle_of
from lambdaml_core.registry import default_registry
from lambdaml_core.run.records.attempts import (
    beat_key,
    claim_key,
    end_key,
    error_key,
    handover_key,
    open_generation,
    run_end_key,
)
from lambdaml_core.run.records.status import State, read_state
from lambdaml_core.run.spec import DRIVER, RESULT, Checkpointing, Limits, Place, Recovery, Spec, Stop, put_json
from lambdaml_core.storage import FullStorage, open_storage

WORKERS = 3
ELSEWHERE = "another-machine/1/1"  # a process that cannot be looked at from here

Begin = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture(autouse=True)
def _a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time stands still, so that nothing grows older than the test says."""
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)


def spec() -> Spec:
    resolve = default_registry().resolve
    place = Place.of("memory://never-used")
    return Spec(
        run="the-run",
        created="2025-01-31T23:59:59+00:00",
        seed=0,
        workers=WORKERS,
        batch_size=1,
        rounds=1,
        steps_per_round=1,
        evaluate=1,
        stop=Stop(),
        checkpoint=Checkpointing(retain_bytes=1),
        recovery=Recovery(heartbeat_s=1.0),
        limits=Limits(),
        class_weight=None,
        initial=None,
        code=None,
        scope="host",
        aggregators=1,
        aggregators_reason=None,
        store=place,
        channel=place,
        model=resolve("model", "logistic_regression"),
        optimizer=resolve("optimizer", "ga_sgd", {"learning_rate": 1.0}),
        pattern=resolve("communicator", "aggregate"),
        provider=resolve("provider", "local"),
        data=place,
        data_prefix="",
        data_checksum="",
        usd={},
        job={},
    )


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts processes that wait until they are ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


class Run:
    """Records of a run as its processes leave them."""

    def __init__(self) -> None:
        self.store: FullStorage = open_storage(f"memory://{uuid.uuid4()}")

    def state(self) -> State:
        return read_state(self.store, spec())

    def drive(self, handle: str, age_s: float = 0.0) -> None:
        self.put(DRIVER, age_s, handle=handle, began_s=0.0)

    def work(self, rank: int, handle: str, *, attempt: int = 0, generation: int = 0, age_s: float = 0.0) -> None:
        self.put(claim_key(generation, rank, attempt), age_s, handle=handle)
        self.put(beat_key(generation, rank), age_s, attempt=attempt, beat=0)

    def put(self, key: str, age_s: float = 0.0, **values: Any) -> None:
        put_json(self.store, key, values | {"time_s": time.time() - age_s})


@pytest.fixture
def run() -> Run:
    return Run()


def killed(process: subprocess.Popen[bytes]) -> str:
    handle = handle_of(process.pid)
    process.kill()
    process.wait()
    return handle


@pytest.fixture
def alone(run: Run, begin: Begin) -> Run:
    """Three workers that live, without the driver that they had a moment ago."""
    run.drive(killed(begin()))
    for rank in range(WORKERS):
        run.work(rank, handle_of(begin().pid))
    return run


def test_with_a_driver(run: Run) -> None:
    run.drive(handle_of())
    assert run.state() == State("running", None, 0, {}, {}, driven=True)
    run.work(1, ELSEWHERE, age_s=1000)
    run.put(error_key(0, 1, 0), message="an error")  # which it sees to
    assert run.state().status == "running"
    run.put(RESULT)
    assert (run.state().status, run.state().over) == ("succeeded", False)  # it has to tidy up
    run.put(run_end_key(0), status="succeeded", stop_reason=None)
    assert (run.state().over, run.state().driven) == (True, False)


@pytest.mark.parametrize("age_s", [0.0, 16.0])
def test_a_driver_on_another_machine_is_known_by_its_signs_of_life(run: Run, age_s: float) -> None:
    run.drive(ELSEWHERE, age_s)
    assert run.state().driven is (age_s < 15)


def test_workers_go_on_without_a_driver(alone: Run) -> None:
    state = alone.state()
    assert (state.status, state.driven, state.over) == ("running", False, False)


def test_a_killed_worker_needs_a_driver(alone: Run, begin: Begin) -> None:
    alone.work(1, killed(begin()))
    state = alone.state()
    assert (state.status, state.over) == ("stalled", False)
    assert str(state.reason).startswith("worker 1 has ended")


def test_a_worker_that_has_left_in_order_needs_nobody(alone: Run, begin: Begin) -> None:
    dead = killed(begin())
    alone.work(0, dead)
    alone.put(end_key(0, 0))
    alone.work(1, dead)
    alone.put(handover_key(0, 1, 0))
    assert alone.state().status == "running"
    alone.work(1, handle_of(begin().pid), attempt=1)
    alone.put(error_key(0, 1, 0), message="of an attempt that was replaced")
    assert alone.state().status == "running"
    alone.work(1, dead, attempt=2)
    assert alone.state().status == "stalled"


def test_an_error_needs_a_driver(alone: Run) -> None:
    alone.put(error_key(0, 2, 0), message="the disk is full")
    assert alone.state().reason == "worker 2: the disk is full"


def test_workers_elsewhere_are_known_by_their_signs_of_life(run: Run) -> None:
    for rank in range(WORKERS):
        run.work(rank, ELSEWHERE, age_s=14)
    assert run.state().status == "running"
    run.work(1, ELSEWHERE, age_s=59)
    assert run.state().status == "running"  # it may have lost its store for a while: others go on
    run.work(1, ELSEWHERE, age_s=61)
    assert run.state().reason == "worker 1 has not been heard of for a minute"
    for rank in range(WORKERS):
        run.work(rank, ELSEWHERE, age_s=20)
    assert run.state().reason == "no worker has been heard of for 20 s"


def test_a_worker_that_was_never_started(alone: Run) -> None:
    alone.store.delete([claim_key(0, 2, 0), beat_key(0, 2)])
    assert alone.state().status == "running"
    alone.put(DRIVER, 61, handle=ELSEWHERE)
    assert alone.state().reason == "worker 2 has not begun"


def test_the_newest_generation_counts(alone: Run, begin: Begin) -> None:
    alone.put(run_end_key(0), status="failed", stop_reason="a reason")
    assert alone.state() == State(
        "failed", "a reason", 0, {"status": "failed", "stop_reason": "a reason"} | _time(alone), {}, driven=False
    )
    open_generation(alone.store, 1, "resumed", None)
    for rank in range(WORKERS):
        alone.work(rank, handle_of(begin().pid), generation=1)
    assert (alone.state().status, alone.state().generation) == ("running", 1)
    alone.put(error_key(0, 1, 3), message="of the last generation")
    assert alone.state().status == "running"
    alone.work(0, killed(begin()), generation=1)
    assert alone.state().status == "stalled"
    alone.put(run_end_key(1), status="cancelled", stop_reason="another")
    assert (alone.state().status, alone.state().reason) == ("cancelled", "another")


def _time(run: Run) -> dict[str, Any]:
    return {"time_s": run.state().end["time_s"]}
