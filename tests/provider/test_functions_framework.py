"""The contract is no cloud's own: workers as functions of another framework keep the laws, and train the same model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from google_provider import GoogleOptions, GoogleProvider

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.provider.base import Provider
from lambdaml_core.provider.local import LocalProvider
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.testing.provider import ProviderLaws
from lambdaml_core.testing.provider_laws.given import refer_to

WORKERS = 4
ROUNDS, LATE_S = 80, 0.05
LIMIT_S = 6
"""Shorter than the 2 late requests of each round are together, and so for each rank, on any machine."""
LATE = ("it has not been heard of", "its successor has not begun")
"""Reasons to start a worker again that a slow machine has."""
PARTS: tuple[Literal["start", "load", "compute", "communicate", "wait"], ...] = (
    "start",
    "load",
    "compute",
    "communicate",
    "wait",
)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes import the provider, which is not installed."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class TestLaws(ProviderLaws):
    cancels = False
    short_limit_s = 2.0

    @pytest.fixture
    def provider(self) -> Provider:
        return GoogleProvider(GoogleOptions())


def train(
    provider: Provider, store: Path, channel: str | None = None, on_event: Callable[[Event], None] | None = None
) -> RunRecord:
    """Logistic regression with momentum: whose additions are in another order gets other last bits."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(569, 30))
    settings: dict[str, Any] = {
        "store": store.as_uri(),
        "channel": channel,
        "workers": WORKERS,
        "batch_size": 64,
        "rounds": ROUNDS,
        "optimizer": {"name": "ga_sgd", "learning_rate": 0.3, "momentum": 0.9},
        "checkpoint": {"rounds": 10},
        "recovery": {"heartbeat_s": 0.2},
    }
    job = dataclasses.replace(Job.from_mapping(settings), provider=refer_to(provider))
    return run_job(job, arrays=(x, (x[:, :5].sum(axis=1) > 0).astype(np.int64)), on_event=on_event)


def test_the_model_is_that_of_processes_whatever_the_limit(tmp_path: Path) -> None:
    """Messages are late, so that limits are reached; successors outnumber the instances, so that some are warm."""
    late = f"fault+{tmp_path.as_uri()}?fault_delay=1&fault_delay_s={LATE_S}"
    seen: list[Event] = []
    served = train(GoogleProvider(GoogleOptions(max_duration_s=LIMIT_S)), tmp_path, late, seen.append)
    local = train(LocalProvider(LocalOptions()), tmp_path)
    assert served["model_sha256"] == local["model_sha256"] is not None
    assert served["exact"]
    assert [e for e in seen if e["event"] == "restarted" and not e["reason"].startswith(LATE)] == []
    assert served["successions"] >= WORKERS
    assert sum(served["seconds"][part] for part in PARTS) <= served["seconds"]["total"], (
        "an instance's age is a worker's"
    )
