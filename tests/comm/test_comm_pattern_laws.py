"""The built-in pattern obeys the laws, and each law catches the pattern that breaks it."""

from __future__ import annotations

from typing import Any

import comm_patterns
import pytest

from lambdaml_core.comm.base import Pattern
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.testing.pattern import PatternLaws


class TestAggregate(PatternLaws):
    @pytest.fixture
    def pattern(self) -> Pattern:
        return aggregate


@pytest.mark.parametrize(
    ("pattern", "law", "arguments"),
    [
        (comm_patterns.does_more_each_time, "test_it_says_the_same_each_time", {}),
        (comm_patterns.names_keys_by_hand, "test_keys_come_from_the_call", {}),
        (comm_patterns.two_owners, "test_every_value_has_one_maker", {}),
        (comm_patterns.nobody_puts_the_result, "test_everything_that_is_read_is_put", {}),
        (comm_patterns.leaves_copies, "test_everything_that_is_put_can_be_deleted", {}),
        (comm_patterns.forgets_the_last_rank, "test_a_fold_takes_each_rank_once_in_order", {}),
        (comm_patterns.folds_its_own_first, "test_a_fold_takes_each_rank_once_in_order", {}),
        (comm_patterns.forgets_the_last_rank, "test_numbers_are_those_of_a_plain_loop", {"size": 3}),
        (comm_patterns.keeps_the_result_to_itself, "test_numbers_are_those_of_a_plain_loop", {"size": 2}),
        (comm_patterns.everybody_waits_first, "test_laws_hold_under_crashes_and_duplicates", {"aggregators": 2}),
        (comm_patterns.does_more_each_time, "test_requests_can_be_told_beforehand", {"aggregators": 1}),
    ],
)
def test_each_law_catches_who_breaks_it(pattern: Pattern, law: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        getattr(PatternLaws(), law)(pattern, **arguments)


def test_every_law_says_what_to_fix() -> None:
    laws = [getattr(PatternLaws, name) for name in dir(PatternLaws) if name.startswith("test_")]
    assert len(laws) == 9
    assert all("ix" in (law.__doc__ or "") for law in laws)
