"""``aggregators = "auto"``: settled once the bytes of a message are known, pinned, and told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from priced_help import Priced, serve
from runs_help import cancer, make_job

from lambdaml_core import train
from lambdaml_core.comm.cost import predict
from lambdaml_core.errors import RunCancelled
from lambdaml_core.estimators import LogisticRegression
from lambdaml_core.run.driver.aggregators import settle
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.history import read_history
from lambdaml_core.run.spec import SPEC, Place, Spec, run_store
from lambdaml_core.run.worker.attempt import Attempt
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.memory import MemoryStorage

S3 = "fault_latency_s=0.08&fault_bytes_per_s=65e6&fault_parallel=1"


def settled(nbytes: int, workers: int = 10, usd_per_worker_s: float = 0.0, url: str = f"fault+memory://x?{S3}") -> int:
    job = make_job("memory://x", workers=workers, aggregators="auto")
    found, reason = settle(job, Place.of(url, channel=True), nbytes, usd_per_worker_s)
    assert reason
    return found


def test_a_number_is_what_it_is() -> None:
    for given, number in ((1, 1), (3, 3), ("all", 4), ("reduce", 1)):
        job = make_job("memory://x", workers=4, aggregators=given)
        assert settle(job, Place.of("memory://x"), 1000, 0.0) == (number, None)


def test_few_fold_small_messages_and_many_large_ones() -> None:
    """The paper's table 3: of 224 B the leader is quicker, of 12 MB and more ScatterReduce, which more ranks than need
    be make no better."""
    assert settled(224) == 1
    assert settled(224, workers=50) == 1
    assert settled(89_000_000) > 3
    assert settled(1000, workers=1) == 1


def test_figures_that_are_not_stated_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value is put and got and deleted; what is stated is believed."""

    class Told(MemoryStorage):
        caps = replace(MemoryStorage.caps, latency_s=1e-3, bytes_per_s=1e9)
        asked: ClassVar[int] = 0

        def get(self, key: str) -> bytes:
            type(self).asked += 1
            return super().get(key)

    class Silent(Told):
        caps = replace(Told.caps, bytes_per_s=0.0)

    for kind, measured in ((Told, False), (Silent, True)):
        kind.asked = 0
        serve(kind, monkeypatch)
        url = f"memory://{kind.__name__}"
        assert 1 <= settled(1000, workers=4, url=url) <= 4
        assert (kind.asked > 0) == measured
        assert list(open_storage(url).list("")) == []


def test_it_is_pinned_and_told_and_the_job_keeps_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(Priced, monkeypatch)  # which states its bandwidth: that of a machine that is busy may ask for more ranks
    told: list[Mapping[str, Any]] = []
    job = make_job(tmp_path, workers=3, provider="inline", aggregators="auto", channel="memory://pinned")
    record = run_job(job, arrays=cancer(), on_event=told.append)
    (launched,) = (event for event in told if event["event"] == "launched")
    assert launched["aggregators"] == record["aggregators"] == 1
    assert launched["aggregators_reason"] == record["aggregators_reason"]
    assert "one rank folds" in (record["aggregators_reason"] or "")
    assert read_history(record["store"], record["run"])["job"]["aggregators"] == "auto"


def test_a_resumed_run_keeps_what_was_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although its channel would be another today."""
    run = "20250101-000000-settled"
    keys = {"rounds": 200, "checkpoint": {"rounds": 10}, "provider": "inline", "workers": 3}
    job = make_job(tmp_path, **keys, aggregators="auto", channel="memory://settled")

    class Slow(Priced):
        caps = replace(Priced.caps, latency_s=1e-6, bytes_per_s=1e3)

    def stop(event: Mapping[str, Any]) -> None:
        if event["event"] == "progress" and event["round"] > 20:
            raise KeyboardInterrupt

    done, never = Attempt._round_done, threading.Event()

    def wait_for_the_end(self: Attempt, round: int) -> None:
        """From round 50 on, however late the driver is."""
        done(self, round)
        while round >= 50:
            self._heart.check()
            never.wait(0.01)

    serve(Slow, monkeypatch)
    monkeypatch.setattr(Attempt, "_round_done", wait_for_the_end)
    with pytest.raises((RunCancelled, KeyboardInterrupt)):
        run_job(job, arrays=cancer(), run=run, on_event=stop)
    monkeypatch.undo()
    pinned = Spec.decode(bytes(run_store(open_storage(f"file://{tmp_path}"), run).get(SPEC))).aggregators
    assert pinned > 1
    record = resume_run(f"file://{tmp_path}", run)
    assert (record["status"], record["aggregators"], record["generation"]) == ("succeeded", pinned, 1)


def test_python_and_estimators_take_the_word(tmp_path: Path) -> None:
    x, y = cancer()
    keys = {"workers": 2, "provider": "inline", "rounds": 5, "store": str(tmp_path)}
    record = train(x, y, aggregators="auto", **keys).record  # type: ignore[arg-type]
    assert record["aggregators_reason"]
    assert not train(x, y, aggregators=2, **keys).record["aggregators_reason"]  # type: ignore[arg-type]
    fitted = LogisticRegression(workers=2, aggregators="auto", epochs=1).fit(x, y)
    assert fitted.run_["aggregators_reason"]


def test_dollars_of_workers_count_among_those_that_are_as_quick() -> None:
    """What is chosen is the cheapest of all that are at most 5 % slower than the quickest."""
    caps = open_storage(f"fault+memory://x?{S3}").caps
    for usd in (0.0, 1e-3):
        number = settled(12_000_000, usd_per_worker_s=usd)
        took = {k: predict(caps, size=10, aggregators=k, nbytes=12_000_128).seconds for k in range(1, 11)}
        assert took[number] <= 1.05 * min(took.values())
