"""The suite of models itself: every law fails a model that breaks it, and none fails a correct one of unusual shape."""

from __future__ import annotations

from pathlib import Path

import broken_figures
import broken_models
import pytest
from broken_models_base import broken_of
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.model import ModelLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

HERE = Path(__file__).parent
BROKEN = [each for module in (broken_models, broken_figures) for each in broken_of(module.__name__)]
LAWS = set(laws_of(ModelLaws))


def test_broken_models_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_model() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


def test_odd_models_pass_and_what_they_lack_is_said(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, HERE / "odd_models.py")
    assert {law for _, law in outcomes} == LAWS
    skipped = {which for which, came_to in outcomes.items() if came_to == {"skipped"}}
    assert {which for which, came_to in outcomes.items() if came_to != {"passed"}} == skipped, printed
    assert skipped == {
        ("TestNetwork", "test_dense_and_sparse_rows_agree"),  # takes dense rows only
        ("TestNetwork", "test_sparse_rows_are_scored_alike"),
        ("TestNetwork", "test_rows_are_not_taken_one_by_one"),
        ("TestNetwork", "test_probabilities_add_to_one_and_agree_with_predict"),
        ("TestInFloat64", "test_ready_gives_each_element_once_and_final"),
        ("TestQuantile", "test_probabilities_add_to_one_and_agree_with_predict"),
    }
