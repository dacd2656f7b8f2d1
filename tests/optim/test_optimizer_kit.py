"""The suite itself: every law fails an optimizer that breaks it, and none fails a correct one of unusual shape.

The suites run as an author's would, in a pytest of their own.
"""

from __future__ import annotations

from pathlib import Path

import broken_ranks
import broken_rounds
import pytest
from broken_optimizer_base import broken_of
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.optimizer import OptimizerLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

HERE = Path(__file__).parent
BROKEN = [broken for module in (broken_ranks, broken_rounds) for broken in broken_of(module.__name__)]
PRIVATE = ("TestCounts", "TestMeetsSeldom", "TestRemembersSlopes")


def test_broken_optimizers_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_optimizer() -> None:
    assert {broken.law for broken in BROKEN} == set(laws_of(OptimizerLaws))


def test_optimizers_of_unusual_shape_pass_and_what_they_do_not_promise_is_said(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, HERE / "odd_optimizers.py")
    assert {law for _, law in outcomes} == set(laws_of(OptimizerLaws))
    skipped = {which for which, came_to in outcomes.items() if came_to == {"skipped"}}
    assert {which for which, came_to in outcomes.items() if came_to != {"passed"}} == skipped
    assert skipped == {
        *((suite, "test_replayed_rounds_compute_nothing") for suite in (*PRIVATE, "TestChoosesASlope")),
        *((suite, "test_the_number_of_workers_changes_nothing_but_rounding") for suite in PRIVATE),
        ("TestLloyd", "test_sparse_rows_are_as_good_as_dense_ones"),
    }
    for reason in ("exact not declared", "sparse not declared", "State.private is not empty", "not all collectives"):
        assert reason in printed
