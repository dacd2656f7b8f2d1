"""The suite of patterns itself: every law fails a pattern that breaks it, and none fails an odd one that is correct.

By the explorer alone such patterns are found, too, and called by the law that they break in a run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_patterns import Broken
from suite_runs import LIMIT_S, run_suites, survivors

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.explorer import LawBroken, explore
from lambdaml_core.testing.pattern import PatternLaws

pytestmark = pytest.mark.timeout(LIMIT_S)

SUITES = Path(__file__).parent / "pattern_suites.py"
BROKEN = Broken.__subclasses__()
LAWS = set(laws_of(PatternLaws))


def test_broken_patterns_fail_the_laws_they_break(tmp_path: Path) -> None:
    survived, printed = survivors(tmp_path, BROKEN, SUITES)
    assert not survived, f"{survived}\n{printed}"


def test_every_law_is_broken_by_some_pattern() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


def test_an_odd_pattern_passes(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, f"{SUITES}::TestWaves")
    assert {law: outcomes["TestWaves", law] for law in LAWS} == {law: {"passed"} for law in LAWS}, printed


@pytest.mark.parametrize("broken", [each for each in BROKEN if each.explored], ids=lambda each: str(each.__name__))
def test_the_explorer_finds_it_too(broken: type[Broken]) -> None:
    with pytest.raises(LawBroken) as found:
        explore(range(2000), 2, pattern=broken.pattern)
    assert found.value.law == broken.explored
