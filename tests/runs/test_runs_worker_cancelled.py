"""Workers that are cancelled end, whatever they wait for."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from pathlib import Path

import pytest
from workers_help import Run, Threads

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import cancel_key
from lambdaml_core.run.spec import SPEC, put_json
from lambdaml_core.run.worker.worker import run_worker
from lambdaml_core.storage import open_storage, storage_reference
from lambdaml_core.storage.retry import Retry


def test_a_cancelled_run(tmp_path: Path) -> None:
    """Also one whose workers wait for one that never came."""
    run = Run(tmp_path)
    threads = Threads(run)
    for rank in (0, 1):
        threads.launch(run.ref(rank))
    put_json(run.store, cancel_key(0), {})
    threads.wait()
    assert sorted(threads.codes) == [(0, 0, 1), (1, 0, 1)]
    assert run.read("errors/") == run.read("ends/") == {}


@pytest.mark.parametrize("known_by", ["flag", "thread"])
def test_cancelled_while_the_channel_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_by: str
) -> None:
    """An outage that would be waited for does not keep a worker."""
    monkeypatch.setattr(Retry.__init__, "__defaults__", (math.inf, None))
    run = Run(tmp_path, channel="fault+memory://outage?fault_lost=1")
    threads = Threads(run)
    for rank in range(3):
        threads.stops[rank, 0] = threading.Event()
    threads.start()
    if known_by == "flag":
        put_json(run.store, cancel_key(0), {})
    else:
        for stop in threads.stops.values():
            stop.set()
    threads.wait()
    assert [code for _, _, code in threads.codes] == [1, 1, 1]
    assert run.read("errors/") == {}


def test_cancelled_while_the_store_cannot_be_reached() -> None:
    """Not even the specification can be read."""
    with contextlib.closing(open_storage("memory://outage")) as store:
        store.put(f"runs/r/{SPEC}", [b"{}"])
    url = "fault+memory://outage?fault_lost=1"
    storage = dataclasses.asdict(storage_reference(url))
    ref = WorkerRef(store=url, storage=storage, run="r", generation=0, rank=0, attempt=0, spec_sha256="")
    stop = threading.Event()
    stop.set()
    log: list[str] = []
    assert run_worker(ref, stop=stop, log=log.append) == 1
    assert "the run was cancelled" in log[0]
