"""Whole runs over channels that lose, delay, repeat, cut and drop: the quiet run's bytes, or an error that says why.

A run's name is in its keys, and what befalls a key follows from the seed: named runs meet the same faults every time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from held_runs import own_rounds
from runs_help import cancer, keys_of, make_job, scratch_of

from lambdaml_core.errors import NotSupported, WorkerFailed
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.attempts import run_end_key
from lambdaml_core.run.records.records import RunRecord

SIZE = 3
EVERY = 10  # rounds from one checkpoint to the next
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "ga_sgd": {"learning_rate": 0.3, "momentum": 0.9},
    "ma_sgd": {"learning_rate": 0.1, "momentum": 0.9, "local_steps": 2, "keep_momentum": True},
}
PATTERNS = [("ga_sgd", SIZE), ("ma_sgd", 1)]
SLOW = os.environ.get("LAMBDAML_SLOW") == "1"
if SLOW:
    PATTERNS += [("ga_sgd", 1), ("ma_sgd", SIZE)]
EMPTY = """
import shutil
from pathlib import Path

def before(w):
    done = Path({folder!r}) / str(w.round)
    if w.round in {rounds} and w.rank == w.round // {every} % w.size and not done.exists():
        done.touch()  # who goes through this round again leaves it alone
        shutil.rmtree({channel!r}, ignore_errors=True)
"""


class Told(list[dict[str, Any]]):
    """The events of a run."""

    def reasons(self, event: str) -> list[str]:
        """Why the run did this, each time that it did."""
        return [each["reason"] for each in self if each["event"] == event]


def run(
    folder: Path, optimizer: str, aggregators: int, channel: str | None, store: str = "", **keys: Any
) -> tuple[RunRecord, Told]:
    """A run called ``lossy`` in this folder, which is soon to notice that something is lost."""
    told = Told()
    values: dict[str, Any] = {
        "workers": SIZE,
        "aggregators": aggregators,
        "optimizer": {"name": optimizer, **OPTIMIZERS[optimizer.removeprefix("own_")]},
        "channel": channel,
        "provider": "inline",
        "rounds": 60,
        "checkpoint": {"rounds": EVERY},
        "recovery": {"deadline_s": 2.0, "heartbeat_s": 0.2},
    }
    job = make_job(store or folder / "store", **values | keys)
    return run_job(job, arrays=cancer(), run="lossy", on_event=lambda event: told.append(dict(event))), told


@functools.cache
def quiet(folder: Path, optimizer: str, aggregators: int, provider: str = "inline", rounds: int = 60) -> str:
    """The SHA-256 of the model of a run that nothing befalls."""
    name = f"quiet-{optimizer}-{aggregators}-{provider}-{rounds}"
    record, _ = run(folder / name, optimizer, aggregators, None, provider=provider, rounds=rounds)
    assert record["model_sha256"] is not None
    return record["model_sha256"]


@pytest.fixture(scope="module")
def quietly(tmp_path_factory: pytest.TempPathFactory) -> functools.partial[str]:
    return functools.partial(quiet, tmp_path_factory.mktemp("quiet"))


@pytest.mark.parametrize(("optimizer", "aggregators"), PATTERNS)
def test_lost_answers_delays_and_duplicates_are_not_noticed(
    optimizer: str, aggregators: int, tmp_path: Path, quietly: functools.partial[str]
) -> None:
    faults = "fault_seed=1&fault_lost=0.05&fault_delay=0.02&fault_delay_s=0.005&fault_duplicate=0.05"
    channel = f"fault+file://{tmp_path}/channel?{faults}"
    record, told = run(tmp_path, optimizer, aggregators, channel, recovery={})  # nothing is lost that is waited for
    assert record["model_sha256"] == quietly(optimizer, aggregators)
    assert record["exact"]
    assert told.reasons("restarted") == told.reasons("reopened") == []
    assert keys_of(tmp_path / "channel") == []


def test_neither_are_they_by_processes_nor_in_a_store(tmp_path: Path, quietly: functools.partial[str]) -> None:
    faults = "fault_seed=2&fault_lost=0.05&fault_delay=0.02&fault_delay_s=0.005&fault_duplicate=0.05"
    record, told = run(
        tmp_path,
        "ga_sgd",
        SIZE,
        f"fault+file://{tmp_path}/channel?{faults}",
        f"fault+file://{tmp_path}/store?{faults}",
        provider="local",
        recovery={},
    )
    assert record["model_sha256"] == quietly("ga_sgd", SIZE, "local")
    assert told.reasons("restarted") == told.reasons("reopened") == []
    assert not scratch_of(record["run"]).exists()


@pytest.mark.parametrize(("optimizer", "aggregators"), PATTERNS)
def test_messages_that_are_cut_short_are_gone_over_again(
    optimizer: str, aggregators: int, tmp_path: Path, quietly: functools.partial[str]
) -> None:
    """They cannot be created again; so all start again from the newest checkpoint, where messages have new names."""
    channel = f"fault+file://{tmp_path}/channel?fault_seed=5&fault_truncate=0.006"
    record, told = run(tmp_path, optimizer, aggregators, channel, recovery={})  # nobody waits: they are there
    assert record["model_sha256"] == quietly(optimizer, aggregators)
    assert record["generation"] == len(told.reasons("reopened")) > 0
    for reason in told.reasons("reopened"):
        assert any(said in reason for said in ("no message of a collective", "bytes instead of", "damaged")), reason


@pytest.mark.parametrize(("optimizer", "aggregators"), PATTERNS)
def test_evicted_messages_are_created_again(
    optimizer: str, aggregators: int, tmp_path: Path, quietly: functools.partial[str]
) -> None:
    """Those that nobody can create again are lost: then all start again from the newest checkpoint."""
    channel = f"fault+file://{tmp_path}/channel?fault_seed=3&fault_evict=0.1"
    record, told = run(tmp_path, optimizer, aggregators, channel)
    assert record["model_sha256"] == quietly(optimizer, aggregators)
    assert record["generation"] == len(told.reasons("reopened"))
    lost = ("its result is nowhere: g", "was deleted while this rank read it", "which the channel keeps losing")
    assert all(any(words in reason for words in lost) for reason in told.reasons("reopened"))


@pytest.mark.parametrize(
    ("optimizer", "aggregators", "provider"), [*((*each, "inline") for each in PATTERNS), ("ga_sgd", SIZE, "local")]
)
def test_a_channel_that_is_emptied_again_and_again(
    optimizer: str, aggregators: int, provider: str, tmp_path: Path, quietly: functools.partial[str]
) -> None:
    """As a cache that is restarted: all files are gone, folders and those being written included. By one rank or
    another, between two rounds of its own, whatever the others are doing."""
    channel, emptied, times = tmp_path / "channel", tmp_path / "emptied", 4 if SLOW else 2
    emptied.mkdir()
    rounds = (times + 1) * EVERY
    at = tuple(range(EVERY, rounds, EVERY))
    text = EMPTY.format(folder=str(emptied), rounds=at, every=EVERY, channel=str(channel))
    with own_rounds(tmp_path, text) as code:
        keys: dict[str, Any] = {"provider": provider, "rounds": rounds, "code": code}
        record, _ = run(tmp_path, f"own_{optimizer}", aggregators, channel.as_uri(), **keys)
    assert {int(path.name) for path in emptied.iterdir()} == set(at)
    assert record["model_sha256"] == quietly(optimizer, aggregators, provider, rounds)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"recovery": {"restarts": 2}}, "messages were lost 3 times in a row"),
        ({"recovery": {}, "checkpoint": {"enabled": False}}, "worker"),
    ],
    ids=["every message", "without checkpoints"],
)
def test_what_cannot_be_repaired_is_said(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The key, and what to do; and nothing is left in the channel."""
    with pytest.raises(WorkerFailed, match=said) as failed:
        run(tmp_path, "ga_sgd", 1, f"fault+file://{tmp_path}/channel?fault_truncate=0.9&fault_seed=1", **keys)
    assert "g0/" in failed.value.message or "g2/" in failed.value.message
    assert failed.value.hint
    assert keys_of(tmp_path / "channel") == []
    assert any(key.endswith(run_end_key(0)) or "/end/" in key for key in keys_of(tmp_path / "store"))


def test_what_loses_values_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="is not durable"):
        run(tmp_path, "ga_sgd", 1, None, f"fault+file://{tmp_path}/store?fault_evict=0.1", provider="local")
