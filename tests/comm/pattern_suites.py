"""The test classes of broken and of odd patterns; ``test_comm_pattern_kit.py`` has pytest run them."""

from __future__ import annotations

import pytest
from broken_patterns import Broken
from odd_patterns import Waves

from lambdaml_core.comm.base import Pattern
from lambdaml_core.testing.pattern import PatternLaws


class TestWaves(PatternLaws):
    schedules = 50

    @pytest.fixture
    def pattern(self) -> Pattern:
        return Waves(2)


def _suite(broken: type[Broken]) -> type[PatternLaws]:
    class Suite(PatternLaws):
        @pytest.fixture
        def pattern(self) -> Pattern:
            return broken.pattern

    return Suite


globals().update({f"Test{each.__name__}": _suite(each) for each in Broken.__subclasses__()})
