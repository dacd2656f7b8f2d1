"""The built-in pattern obeys the laws."""

from __future__ import annotations

import pytest

from lambdaml_core.comm.base import Pattern
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.testing.pattern import PatternLaws


class TestAggregate(PatternLaws):
    @pytest.fixture
    def pattern(self) -> Pattern:
        return aggregate
