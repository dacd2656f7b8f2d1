"""Processes of an asynchronous run that are killed, or stopped and woken: every update that was published counts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from async_help import GA, check_slots
from held_runs import Gate, held
from worker_processes import Processes, started_processes

from lambdaml_core.provider import processes
from lambdaml_core.run.records.attempts import end_key

HELD = 40
"""The clock at which all wait: three ranks there have done less than all rounds."""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """All wait at a clock until they are let go, since the others would do the rounds of one that is replaced."""
    with held(tmp_path / "gate", HELD) as gate:
        yield gate


@pytest.fixture
def started(tmp_path: Path, gate: Gate) -> Iterator[Processes]:
    """Each request to their channel is late, so that they are harmed at work."""
    channel = f"fault+file://{tmp_path}/channel?fault_delay=1&fault_delay_s=0.002"
    keys = {"workers": 3, "rounds": 100, "channel": channel, "optimizer": GA | {"name": "own_ga_sgd"}}
    with started_processes(tmp_path, gate, keys) as workers:
        yield workers


@pytest.mark.parametrize("rank", [0, 1])
def test_killed(started: Processes, gate: Gate, rank: int) -> None:
    """Three times; once just after it has begun."""
    handle = started.handles[rank]
    for attempt, clock in enumerate((10, 25, 1)):
        started.until_round(rank, clock, attempt)
        assert processes.send(handle, signal.SIGKILL)
        handle = started.launch(rank, attempt + 1)
    gate.let_go()
    started.until_ended()
    check_slots(started.run)
    end = started.run.read(f"ends/0/{rank}")[end_key(0, rank)]
    assert end["totals"]["attempts"] == 4


def test_stopped_and_woken(started: Processes, gate: Gate) -> None:
    """It is replaced meanwhile, and leaves by itself."""
    started.until_round(1, 10)
    old = started.handles[1]
    assert processes.send(old, signal.SIGSTOP)
    started.launch(1, 1)
    started.until_round(1, 20, attempt=1)
    assert processes.send(old, signal.SIGCONT)
    gate.let_go()
    started.until_ended()
    started.until(lambda: started.run.provider.poll([old])[old] == "succeeded")
    check_slots(started.run)
