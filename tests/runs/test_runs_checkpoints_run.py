"""A real run whose newest checkpoint is damaged just before a worker that needs it is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_states import tear
from held_runs import Gate, held
from runs_help import cancer, make_job, slow_channel

from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.checkpoints import CHECKPOINTS, newest_complete
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.run.spec import run_store
from lambdaml_core.storage import open_storage

WORKERS = 2
KEYS: dict[str, Any] = {
    "workers": WORKERS,
    "rounds": 300,
    "optimizer": {"name": "ma_sgd", "local_steps": 1, "momentum": 0.9, "keep_momentum": True},
    "checkpoint": {"rounds": 20},
    "recovery": {"heartbeat_s": 0.1},
}


HELD = 100
"""The round before which all wait to be harmed: there is a whole checkpoint of round 40 by then."""


def run(folder: Path, on_event: Callable[[Any], None] | None = None, **keys: Any) -> RunRecord:
    channel = slow_channel(folder) if on_event else f"{folder}-channel"  # not by the run's name, which others may have
    job = make_job(folder, **(KEYS | keys), channel=channel)
    return run_job(job, arrays=cancer(), on_event=on_event, run="a-run")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(tmp_path_factory.mktemp("quiet"))


@pytest.mark.parametrize(("rank", "part", "how"), [(0, "shared", 302), (1, "private-1", 101)])
def test_the_one_before_it_is_used(tmp_path: Path, quiet: RunRecord, rank: int, part: str, how: int) -> None:
    store = run_store(open_storage(f"file://{tmp_path}/store"), "a-run")
    used: list[tuple[int, int]] = []

    def harm(gate: Gate) -> Iterator[None]:
        while (newest_complete(store, 0, WORKERS) or {"round": 0})["round"] < 40:
            yield
        (claim,) = store.list(f"attempts/0/{rank}/")
        pid = int(json.loads(bytes(store.get(claim)))["handle"].split("/")[1])
        os.kill(pid, signal.SIGSTOP)  # it writes no newer one
        newest = newest_complete(store, 0, WORKERS)
        assert newest is not None
        later = [k for k in store.list(CHECKPOINTS) if k.endswith(f"{part}.safetensors")]
        for key in later:
            if int(key.split("/")[2]) >= newest["round"]:
                tear(store, key, how)
        before = newest_complete(store, 0, WORKERS)
        assert before is not None
        used.append((newest["round"], before["round"]))
        os.kill(pid, signal.SIGKILL)
        gate.let_go()

    optimizer = KEYS["optimizer"] | {"name": "own_ma_sgd"}
    with held(tmp_path / "gate", HELD) as gate:
        steps = harm(gate)
        record = run(tmp_path / "store", lambda event: next(steps, None), optimizer=optimizer, code=gate.code)
    store.close()
    ((damaged, before),) = used
    assert damaged == before + 20
    assert (record["restarts"], record["generation"]) == (1, 0)
    assert record["model_sha256"] == quiet["model_sha256"]
