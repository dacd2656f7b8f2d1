"""Collectives and checkpoints under crashes, duplicates, delays and losses, in any order: the laws hold in every
schedule looked at."""

from __future__ import annotations

import os

import pytest

from lambdaml_core.testing.explorer import explore

SCHEDULES = 250
PARTS = range(40 if os.environ.get("LAMBDAML_SLOW") == "1" else 1)  # 10,000 for each number of aggregators


@pytest.mark.parametrize("aggregators", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("part", PARTS)
def test_laws_hold_in_every_schedule(part: int, aggregators: int) -> None:
    explored = explore(range(part * SCHEDULES, (part + 1) * SCHEDULES), aggregators)
    assert explored.scenarios == SCHEDULES
    assert explored.faults > SCHEDULES, "most schedules should have faults that take effect"


@pytest.mark.parametrize("aggregators", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("part", PARTS)
def test_laws_hold_where_values_are_dropped(part: int, aggregators: int) -> None:
    count = SCHEDULES // 2
    explored = explore(range(part * count, (part + 1) * count), aggregators, evicts=True)
    assert explored.faults > count
    assert explored.generations > count // 25, "some results should be lost for good"
