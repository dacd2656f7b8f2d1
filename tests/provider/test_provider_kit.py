"""The suite of providers itself: every law fails a provider that breaks it, and none fails a correct one of unusual
shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from provider_suites import BROKEN
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.provider import ProviderLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

SUITES = Path(__file__).parent / "provider_suites.py"
LAWS = set(laws_of(ProviderLaws))

KILLS = {"test_kill_ends_one_worker", "test_a_killed_worker_is_replaced"}
LIMITS = {"test_a_run_longer_than_the_limit_gives_the_right_model"}
OTHERS = {"test_a_deployment_launches_from_another_process", "test_handles_serve_another_process"}
LOOKS = {"test_a_worker_knows_its_handle", "test_handles_serve_another_process", "test_logs_are_by_rank_and_in_order"}
LACKING = {
    "TestFireAndForget": KILLS | LIMITS | LOOKS,
    "TestStartsTwice": KILLS | LIMITS | OTHERS,  # threads of this process
    "TestStartsLate": KILLS | LIMITS | OTHERS,
}


def test_broken_providers_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN, SUITES)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_provider() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


def test_odd_providers_pass_and_what_they_lack_is_said(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, *(f"{SUITES}::{odd}" for odd in LACKING))
    skipped = {odd: {law for law in LAWS if outcomes[odd, law] == {"skipped"}} for odd in LACKING}
    assert skipped == LACKING, printed
    assert all(outcomes[odd, law] == {"passed"} for odd in LACKING for law in LAWS - LACKING[odd]), printed
    assert "SupportsKill not implemented" in printed
