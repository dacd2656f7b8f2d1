"""lambdaml-tensorboard is a proper plugin; what it writes is tested beside LambdaML's other examples."""

from __future__ import annotations

import pytest

from lambdaml_core.testing.plugin import PluginLaws


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-tensorboard"
