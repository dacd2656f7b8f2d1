"""Processes of an asynchronous run that are killed, or stopped and woken: every update that was published counts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from async_help import GA, check_slots
from held_runs import Gate, held
from workers_help import RUN, Run

from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Launcher
from lambdaml_core.run.code import pack
from lambdaml_core.run.records.attempts import beat_key, end_key
from lambdaml_core.run.spec import CODE, get_all_json

HELD = 40
"""The clock at which all wait: three ranks there have done less than all rounds."""


class Processes:
    """The processes of a run. Each request to its channel is late, so that they are harmed at work; and all wait at a
    clock until they are let go, since the others would do the rounds of one that is replaced."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        channel = f"fault+file://{folder}/channel?fault_delay=1&fault_delay_s=0.002"
        optimizer = GA | {"name": "own_ga_sgd"}
        keys: dict[str, Any] = {"workers": 3, "rounds": 100, "channel": channel, "optimizer": optimizer}
        self.run = Run(folder, provider="local", code=gate.code, **keys)
        code = pack(gate.code)
        self.run.store.put(CODE, [code.data])
        self.run.change(code=code.sha256)
        self.let_go = gate.let_go
        self.launcher: Launcher = self.run.provider.launcher(self.run.deployment)
        self.handles: list[str] = []

    def launch(self, rank: int, attempt: int = 0) -> str:
        self.handles.append(self.launcher.launch(self.run.ref(rank, attempt)))
        return self.handles[-1]

    def until(self, happened: Callable[[], Any]) -> None:
        """Wait for something."""
        end = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < end, self.run.read("errors/")
            time.sleep(0.01)

    def until_clock(self, rank: int, clock: int, attempt: int = 0) -> None:
        """Until a rank has said that it is so far."""

        def is_there() -> bool:
            beats = get_all_json(self.run.store, [beat_key(0, rank)]).values()
            return any((beat["attempt"], beat["round"]) >= (attempt, clock) for beat in beats)

        self.until(is_there)

    def until_ended(self) -> None:
        keys = [end_key(0, rank) for rank in range(3)]
        self.until(lambda: len(get_all_json(self.run.store, keys)) == 3)

    def close(self) -> None:
        provider = self.run.provider
        provider.cancel(self.run.deployment, RUN, self.handles)
        provider.poll(self.handles)
        provider.teardown(self.run.deployment)
        self.run.root.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Processes]:
    with held(tmp_path / "gate", HELD) as gate:
        workers = Processes(tmp_path, gate)
        for rank in range(3):
            workers.launch(rank)
        yield workers
        workers.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_killed(started: Processes, rank: int) -> None:
    """Three times; once just after it has begun."""
    handle = started.handles[rank]
    for attempt, clock in enumerate((10, 25, 1)):
        started.until_clock(rank, clock, attempt)
        assert processes.send(handle, signal.SIGKILL)
        handle = started.launch(rank, attempt + 1)
    started.let_go()
    started.until_ended()
    check_slots(started.run)
    end = started.run.read(f"ends/0/{rank}")[end_key(0, rank)]
    assert end["totals"]["attempts"] == 4


def test_stopped_and_woken(started: Processes) -> None:
    """It is replaced meanwhile, and leaves by itself."""
    started.until_clock(1, 10)
    old = started.handles[1]
    assert processes.send(old, signal.SIGSTOP)
    started.launch(1, 1)
    started.until_clock(1, 20, attempt=1)
    assert processes.send(old, signal.SIGCONT)
    started.let_go()
    started.until_ended()
    started.until(lambda: started.run.provider.poll([old])[old] == "succeeded")
    check_slots(started.run)
