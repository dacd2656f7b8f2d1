"""Channels that cannot list: who leaves something there says so, and whoever finishes or cleans the run deletes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from held_runs import held
from priced_help import Blind, Polled, serve
from runs_help import cancer, make_job

from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import RunCancelled, StorageDenied, WorkerFailed
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.attempts import left_keys
from lambdaml_core.run.spec import Place, run_store
from lambdaml_core.run.worker.leaving import TimeUp
from lambdaml_core.run.worker.left import leaving_channel
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.storage.url import StorageURL

RUN = "20250101-000000-left"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What is in the channel, by somebody who can list it."""
    able = MemoryStorage(StorageURL("memory", "blind"), None)  # type: ignore[arg-type]
    serve(Blind, monkeypatch)
    yield lambda: list(able.list(""))
    able.delete(able.list(""))


def job(folder: Path, **keys: Any) -> Any:
    return make_job(
        folder, **{"workers": 3, "provider": "inline", "channel": "memory://blind", "aggregators": 2, **keys}
    )


def said(folder: Path) -> list[str]:
    return left_keys(run_store(open_storage(f"file://{folder}"), RUN))


def test_who_can_list_is_known_through_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Place.of("memory://x").lists()
    assert Place.of("fault+memory://x").lists()
    serve(Blind, monkeypatch)
    assert not Place.of("memory://x").lists()
    assert not Place.of("fault+memory://x").lists()


def test_nothing_is_left_of_a_good_run(tmp_path: Path, kept: Callable[[], list[str]]) -> None:
    """Results are retained for replacements until the end, so there is something to delete."""
    record = run_job(job(tmp_path), arrays=cancer(), run=RUN)
    assert record["status"] == "succeeded"
    assert len(said(tmp_path)) > record["rounds"]
    assert kept() == []
    clean(record["store"])
    assert kept() == []


def test_who_is_done_need_not_hand_over_what_is_left_to_delete(tmp_path: Path) -> None:
    class Late(Engine):
        def close(self) -> None:
            raise TimeUp("wait")

    channel = Place.of("memory://late")
    engine = Late(channel.open(), rank=0, size=2)
    with leaving_channel(open_storage(tmp_path.as_uri()), WorkerRef("", {}, RUN, 0, 0, 0, ""), channel, engine):
        pass


def test_a_channel_that_lists_needs_no_such_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(Polled, monkeypatch)
    run_job(job(tmp_path, channel="memory://able"), arrays=cancer(), run=RUN)
    assert said(tmp_path) == []
    assert list(open_storage("memory://able").list("")) == []


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
def test_nor_of_one_that_ends_badly_or_of_the_one_that_goes_on(
    ending: str, tmp_path: Path, kept: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads nobody is killed, so everybody tells; in the new generation there are no keys of the old one."""

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "progress" and event["round"] > 20:
            if ending == "fails":
                harm.setattr(Blind, "put_many", refuse)
            gate.let_go()
            if ending == "is cancelled":
                raise KeyboardInterrupt

    def refuse(*args: object, **keys: object) -> list[str]:
        raise StorageDenied("no more")

    ends = pytest.raises((WorkerFailed, RunCancelled, KeyboardInterrupt))
    with held(tmp_path / "held", 50) as gate, monkeypatch.context() as harm, ends:
        keys = {"rounds": 200, "checkpoint": {"rounds": 10}, **gate.keys}
        run_job(job(tmp_path, **keys), arrays=cancer(), run=RUN, on_event=on_event)
    assert said(tmp_path)
    assert kept() == []
    record = resume_run(f"file://{tmp_path}", RUN)
    assert (record["status"], record["generation"]) == ("succeeded", 1)
    assert kept() == []


def test_what_a_lost_driver_left_is_swept_by_clean(tmp_path: Path, kept: Callable[[], list[str]]) -> None:
    """As if it had been killed before it could finish: the messages are there, and its workers have told of them."""
    folder = tmp_path / "runs"
    channel = open_storage("memory://blind")
    run_job(job(tmp_path), arrays=cancer(), run=RUN)
    keys = [f"channels/{RUN}/{key}" for key in said(tmp_path)]
    channel.put_many({key: [b"x"] for key in keys})
    assert sorted(kept()) == sorted(keys)
    assert (folder / RUN).is_dir()
    assert clean(f"file://{tmp_path}", RUN) == [RUN]
    assert kept() == []
