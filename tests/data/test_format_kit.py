"""The suites of formats themselves: every law fails a format that breaks it, and none fails a correct, odd one."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_formats import BROKEN
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.data_format import RowFormatLaws, TableFormatLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

HERE = Path(__file__).parent
LAWS = {*laws_of(RowFormatLaws), *laws_of(TableFormatLaws)}


def test_broken_formats_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_format() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


def test_odd_formats_pass_and_what_they_lack_is_said(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, HERE / "odd_formats.py")
    assert {law for _, law in outcomes} <= LAWS
    skipped = {which for which, came_to in outcomes.items() if came_to == {"skipped"}}
    assert {which for which, came_to in outcomes.items() if came_to != {"passed"}} == skipped, printed
    assert skipped == {
        ("TestRecords", "test_a_malformed_line_is_refused_by_its_number"),
        ("TestRecords", "test_more_columns_than_features_are_refused"),
        ("TestRecords", "test_rows_to_predict_on_may_lack_labels"),
    }
