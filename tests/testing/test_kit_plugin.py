"""The suite of distributions itself: every law fails one that breaks it, and none fails a correct one."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_plugins import BROKEN
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.plugin import PluginLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

HERE = Path(__file__).parent


def test_broken_distributions_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_distribution() -> None:
    assert {broken.law for broken in BROKEN} == set(laws_of(PluginLaws))


def test_correct_distributions_of_unusual_shape_pass(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, HERE / "odd_plugins.py")
    assert {law for _, law in outcomes} == set(laws_of(PluginLaws))
    lacking = {each for each, came_to in outcomes.items() if came_to != {"passed"}}
    assert lacking == {
        ("TestLambdaMLItself", "test_names_follow_the_distribution"),
        ("TestLambdaMLItself", "test_the_dependency_on_lambdaml_is_bounded"),
    }, printed


def test_one_mistake_fails_one_law_and_is_told_to_its_author(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, HERE / "broken_plugins.py::TestMisspeltHook")
    failed = [law for (_, law), came_to in outcomes.items() if not came_to <= {"passed", "skipped"}]
    assert failed == ["test_hooks_give_valid_records"], printed
    assert "there is no hook lambdaml_model: did you mean lambdaml_models?" in printed
    assert "pip uninstall" not in printed, "what users are told"
