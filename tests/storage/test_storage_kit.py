"""The kit itself: every law fails a storage that breaks it, and none fails a correct one of unusual shape.

The suites run as an author's would, in a pytest of their own.
"""

from __future__ import annotations

from pathlib import Path

import broken_limits
import broken_many
import broken_processes
import broken_values
import pytest
from broken_base import broken_of
from suite_runs import LIMIT_S, Outcomes, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

HERE = Path(__file__).parent
BROKEN = broken_of(*(module.__name__ for module in (broken_values, broken_many, broken_limits, broken_processes)))
LAWS = {*laws_of(StorageLaws), *laws_of(UnreachableStorageLaws)}


def test_broken_storages_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_storage() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


NOT_LISTED = {
    "test_list_gives_exactly_the_keys_with_the_prefix",
    "test_list_is_complete",
    "test_listing_can_be_deleted",
    "test_what_is_listed_can_be_read",
}
NOT_WAITED = {
    "test_a_wait_ends",
    "test_a_wait_lasts_its_time",
    "test_a_wait_ends_when_the_value_comes",
    "test_a_wait_is_for_any_of_the_keys",
    "test_a_wait_is_for_many_keys",
    "test_all_who_wait_are_woken",
}
NOT_LET_GO = {"test_values_go_when_their_time_is_over", "test_a_new_value_has_a_time_of_its_own"}
PROCESSES = {
    "test_values_cross_processes",
    "test_one_of_many_processes_creates",
    "test_a_wait_ends_when_another_process_puts",
    "test_values_outlive_their_processes",
    "test_a_process_that_used_it_ends",
}


@pytest.fixture(scope="module")
def odd_outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, str]:
    odd = str(HERE / "odd_storages.py")
    suites = ("TestSqliteStorage", "TestInPieces", "TestNoDatabase")
    alone = [f"{odd}::TestOnlyConnect::{law}" for law in sorted(PROCESSES | {"test_errors_tell_no_password"})]
    return run_suites(tmp_path_factory.mktemp("odd"), *(f"{odd}::{suite}" for suite in suites), *alone)


@pytest.mark.parametrize(
    ("suite", "lacking"),
    [
        (
            "TestSqliteStorage",
            NOT_LISTED
            | NOT_WAITED
            | NOT_LET_GO
            | {"test_a_wait_ends_when_another_process_puts", "test_checks_are_findings"},
        ),
        ("TestInPieces", PROCESSES - {"test_a_process_that_used_it_ends"} | {"test_too_large_values_are_refused"}),
        ("TestNoDatabase", {"test_checks_say_what_cannot_be_reached"}),
        ("TestOnlyConnect", PROCESSES | {"test_errors_tell_no_password"}),
    ],
)
def test_an_odd_storage_passes_and_what_it_lacks_is_skipped(
    suite: str, lacking: set[str], odd_outcomes: tuple[Outcomes, str]
) -> None:
    came_to = {law: outcome for (cls, law), outcome in odd_outcomes[0].items() if cls == suite}
    assert came_to
    assert came_to == {law: {"skipped"} if law in lacking else {"passed"} for law in came_to}


def test_all_laws_were_asked_of_odd_storages_and_skips_say_why(odd_outcomes: tuple[Outcomes, str]) -> None:
    outcomes, printed = odd_outcomes
    assert {law for _, law in outcomes} == LAWS
    for why in (
        "caps.blocks not declared",
        "caps.expires not declared",
        "caps.scope host or network not declared",
        "caps.max_value_bytes not declared",
        "SupportsList not implemented",
        "SupportsChecks not implemented",
        "needs the fixture `url`: there is only `connect`",
    ):
        assert why in printed


def test_threads_that_go_on_do_not_keep_a_test_run_from_ending(tmp_path: Path) -> None:
    suite = "TestLeavesThreads"
    laws = ("test_put_replaces", "test_close_leaves_no_threads")
    outcomes, _ = run_suites(tmp_path, *(f"{HERE}/leaves_threads.py::{suite}::{law}" for law in laws))
    assert dict(outcomes) == {(suite, laws[0]): {"passed"}, (suite, laws[1]): {"failure"}}
