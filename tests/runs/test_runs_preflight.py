"""First contact: what is wrong with a storage is told at once, and before any row is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from held_runs import held
from priced_help import serve
from runs_help import cancer, files_below, keys_of, make_job, write_libsvm

from lambdaml_core.errors import (
    DataError,
    LambdaMLError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    WorkerFailed,
)
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.memory import MemoryStorage


class Refusing(MemoryStorage):
    """It refuses what is put there, with an error that quotes what it was told."""

    error: type[StorageError] = StorageDenied

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        raise self.error("the user may not put, with the password opensesame", hint="ask for the permission")


class Full(Refusing):
    error = StorageFull


class Forgetful(MemoryStorage):
    """It takes what it is given, and does not have it."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return True


class Garbling(MemoryStorage):
    """It gives back something else."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return super().put(key, [b"x"], if_absent=if_absent, ttl_s=ttl_s)


def refused(job_keys: Mapping[str, Any], folder: Path) -> tuple[LambdaMLError, list[str]]:
    """The error of a job, and the events before it."""
    told: list[str] = []
    source = str(write_libsvm(folder / "rows.libsvm"))
    job = make_job(**{"store": f"file://{folder}/store", "provider": "inline", "data": source, **job_keys})
    with pytest.raises(LambdaMLError) as caught:
        run_job(job, on_event=lambda event: told.append(event["event"]))
    assert "\n" not in caught.value.message
    return caught.value, told


@pytest.mark.parametrize("role", ["store", "channel"])
@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        (Refusing, StorageDenied, "may not put"),
        (Full, StorageFull, "may not put"),
        (Forgetful, StorageError, "not there"),
        (Garbling, StorageError, "not what was put"),
    ],
)
def test_a_storage_that_does_not_serve(
    role: str,
    kind: type[MemoryStorage],
    error: type[StorageError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PASSWORD", "opensesame")
    serve(kind, monkeypatch)
    url = "memory://{env:PASSWORD}"
    found, told = refused({role: url}, tmp_path)
    assert type(found) is error
    assert f"the {role} memory://" in found.message
    assert said in found.message
    assert "opensesame" not in found.message
    assert told == []
    assert files_below(tmp_path / "store") == []


@pytest.mark.parametrize("role", ["store", "channel"])
def test_nobody_there(role: str, tmp_path: Path) -> None:
    """Every answer is lost. It is tried again for a moment, and not as long as in a run that goes on."""
    found, told = refused({role: f"fault+file://{tmp_path}/place?fault_lost=1"}, tmp_path)
    assert type(found) is StorageUnavailable
    assert f"the {role} fault+file://" in found.message
    assert "tried again for 1 s" in found.message
    assert told == []


def test_a_partition_that_cannot_be_reached(tmp_path: Path) -> None:
    found, _ = refused({"data": f"fault+file://{tmp_path}/place?fault_lost=1"}, tmp_path)
    assert type(found) is StorageUnavailable
    assert "the partition fault+file://" in found.message
    assert "tried again for 1 s" in found.message
    found, _ = refused({"data": f"file://{tmp_path}/place"}, tmp_path)
    assert type(found) is DataError


def test_nothing_is_left_of_a_trial(tmp_path: Path) -> None:
    record = run_job(make_job(tmp_path / "store", provider="inline", channel=f"file://{tmp_path}/c"), arrays=cancer())
    assert not [key for key in keys_of(tmp_path / "store") if "trial" in key]
    assert keys_of(tmp_path / "c") == []
    clean(record["store"])
    assert keys_of(tmp_path / "store") == []


def test_a_run_is_not_resumed_over_a_channel_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once, nothing of the run is changed, and it can be resumed when the channel is back."""
    keys: dict[str, Any] = {"rounds": 100, "checkpoint": {"rounds": 10}, "recovery": {"restarts": 0}}

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "progress" and event["round"] > 20:  # and so the checkpoint of round 10 has been written
            serving.setattr(MemoryStorage, "put_many", refuse)
            gate.let_go()

    def refuse(*args: object, **keys: object) -> bool:
        raise StorageDenied("may not put")

    fails = pytest.raises(WorkerFailed, match="may not put")
    with held(tmp_path / "held", 50) as gate, monkeypatch.context() as serving, fails:
        job = make_job(tmp_path / "store", provider="inline", channel="memory://away", **keys, **gate.keys)
        run_job(job, arrays=cancer(), run="20250101-000000-away", on_event=on_event)
    before = {path: path.read_bytes() for path in files_below(tmp_path / "store")}
    with monkeypatch.context() as away:
        serve(Refusing, away)
        with pytest.raises(StorageDenied, match="the channel memory://"):
            resume_run(job.store, "20250101-000000-away")
    assert {path: path.read_bytes() for path in files_below(tmp_path / "store")} == before
    assert resume_run(job.store, "20250101-000000-away")["status"] == "succeeded"
