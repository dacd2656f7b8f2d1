"""Collectives under crashes, duplicates and delays, in any order: the laws hold in every schedule looked at."""

from __future__ import annotations

import os

import pytest

from lambdaml_core.testing.explorer import explore

SCHEDULES = 10_000 if os.environ.get("LAMBDAML_SLOW") == "1" else 1_000


@pytest.mark.parametrize("aggregators", [1, 2, 3, 4, 5])
def test_laws_hold_in_every_schedule(aggregators: int) -> None:
    explored = explore(range(SCHEDULES), aggregators)
    assert explored.scenarios == SCHEDULES
    assert explored.faults > SCHEDULES, "most schedules should have faults that take effect"


@pytest.mark.parametrize("aggregators", [1, 2, 3, 4, 5])
def test_laws_hold_where_values_are_dropped(aggregators: int) -> None:
    explored = explore(range(SCHEDULES // 10), aggregators, evicts=True)
    assert explored.faults > SCHEDULES // 20
