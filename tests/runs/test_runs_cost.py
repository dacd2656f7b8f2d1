"""What a run's requests and bytes cost: counts times prices, and counts as they are predicted."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from priced_help import PRICES, WORKER_PRICES, Blind, Polled, Priced, pay, serve
from runs_help import cancer, make_job
from workers_help import Counted, Run, Threads

from lambdaml_core.comm.cost import predict
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.history import CHARGES, WORKER_CHARGES, read_history
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.run.worker.timing import Clock
from lambdaml_core.run.worker.totals import Tally
from lambdaml_core.run.worker.worker import run_worker

ROUNDS = 12
MESSAGE = 128 + 64 + 8
"""Bytes: a gradient of 30 features and a bias, three totals, one number; each begins at a multiple of 64."""


def train(store: Path, **keys: Any) -> RunRecord:
    values = {"workers": 3, "provider": "inline", "channel": f"memory://{store.name}", "rounds": ROUNDS, **keys}
    return run_job(make_job(store, **values), arrays=cancer())


@pytest.mark.parametrize("aggregators", [1, 2, 3])
@pytest.mark.parametrize("kind", [Priced, Polled])
def test_counts_are_those_predicted(
    kind: type[Priced], aggregators: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the rounds there are a broadcast of the parameters, the loss of the training rows at the end, and a
    barrier."""
    serve(kind, monkeypatch)
    keys = {"aggregators": aggregators, "data": {"validation": 0.0}, "stop": {"seconds": 3600.0}} | {
        "checkpoint": {"enabled": False}
    }
    record = train(tmp_path, **keys)
    requests = record["requests"]
    each = predict(kind.caps, size=3, aggregators=aggregators, nbytes=MESSAGE)
    loss, barrier = (predict(kind.caps, size=3, aggregators=k, nbytes=n) for k, n in ((aggregators, 64), (1, 0)))
    assert each.chunks == aggregators
    broadcast = {"put": 1, "get": 2}
    for name in ("put", "get"):
        found = requests["put"] if name == "put" else requests["get"] - requests["missed"]
        expected = ROUNDS * getattr(each, name) + getattr(loss, name) + getattr(barrier, name) + broadcast[name]
        assert found == expected, name
    assert requests["list"] == 0
    assert kind is Polled or requests["missed"] == 0
    more = train(tmp_path, **keys, rounds=2 * ROUNDS)["bytes"]
    for name in ("sent", "received"):
        found = more[name] - record["bytes"][name]  # type: ignore[literal-required]
        # where a chunk ends there is no padding between arrays, and who has no rows in a round brings zeros
        assert 0.9 <= found / (ROUNDS * getattr(each, name)) <= 1


@pytest.mark.parametrize("kind", [Priced, Polled, Blind])
def test_dollars_are_counts_times_prices(kind: type[Priced], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(kind, monkeypatch)
    record = train(tmp_path)
    counts: dict[str, Any] = {**record["requests"], **record["bytes"]}
    usd = sum(counts[name] * price for name, price in PRICES.items())
    assert usd > 0
    assert record["cost_usd"] == pytest.approx(usd, rel=1e-9)
    history = read_history(record["store"], record["run"])
    assert sum(cost["usd"] for cost in history["costs"]) == pytest.approx(usd, rel=1e-9)
    assert [cost["charge"] for cost in history["costs"] if cost["place"] == "channel"] == list(CHARGES)
    assert sum(worker["cost_usd"] or 0.0 for worker in history["workers"]) == pytest.approx(usd, rel=1e-9)


def test_workers_are_paid_for_their_time_their_launches_and_what_they_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(monkeypatch)
    serve(Priced, monkeypatch)
    record = train(tmp_path)
    history = read_history(record["store"], record["run"])
    whole = 0.0
    for worker in history["workers"]:
        mine, seconds = worker["worker"], worker["seconds"]
        assert mine is not None
        assert seconds is not None
        assert mine["seconds"] == pytest.approx(sum(seconds.values()), abs=1e-9)
        assert (mine["launches"], mine["log_bytes"]) == (1, 0)
        whole += mine["seconds"] * WORKER_PRICES["usd_per_worker_s"] + WORKER_PRICES["usd_per_launch"]
    counts: dict[str, Any] = {**record["requests"], **record["bytes"]}
    storage = sum(counts[name] * price for name, price in PRICES.items())
    assert record["cost_usd"] == pytest.approx(storage + whole, rel=1e-9)
    owed = [cost for cost in history["costs"] if cost["place"] == "worker"]
    assert [cost["charge"] for cost in owed] == list(WORKER_CHARGES)
    assert sum(cost["usd"] for cost in owed) == pytest.approx(whole, rel=1e-9)
    assert sum(cost["usd"] for cost in history["costs"]) == pytest.approx(record["cost_usd"], rel=1e-9)
    used = history["rounds"]["used"]["usd"]
    assert used == sorted(used, key=lambda usd: usd or 0.0)
    assert 0 < (used[-1] or 0.0) <= (history["workers"][0]["cost_usd"] or 0.0)


def test_processes_that_handed_over_are_paid_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pay(monkeypatch)
    monkeypatch.setattr("lambdaml_core.run.worker.attempt.TimeLimit", type("Limit", (Counted,), {"rounds": 15}))
    run = Run(tmp_path, workers=2)
    assert run.spec.usd["worker"] == dict(zip(WORKER_CHARGES, WORKER_PRICES.values(), strict=True))
    Threads(run).start().wait()
    for rank, end in enumerate(run.read("ends/").values()):
        totals = end["totals"]
        launches = len(run.read(f"attempts/0/{rank}/"))
        assert launches == totals["attempts"] == totals["worker"]["launches"] >= 3
        assert totals["worker"]["seconds"] == pytest.approx(sum(totals["seconds"].values()), abs=1e-9)


def test_an_error_that_is_printed_is_counted(tmp_path: Path) -> None:
    printed: list[str] = []
    tallies: list[Tally] = []

    class Noted(Tally):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            tallies.append(self)

    run = Run(tmp_path, workers=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lambdaml_core.run.worker.worker.Tally", Noted)
        wrong = run.ref(0)._replace(spec_sha256="of another")
        assert run_worker(wrong, stop=threading.Event(), log=printed.append) == 1
    assert tallies[0].log_bytes == sum(len(f"{text}\n".encode()) for text in printed) > 0
