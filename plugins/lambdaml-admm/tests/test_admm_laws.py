"""``admm`` keeps the laws of an optimizer, and its distribution those of a plugin."""

from __future__ import annotations

import pytest

from lambdaml_admm.optimizer import ADMM
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.testing.optimizer import OptimizerLaws
from lambdaml_core.testing.plugin import PluginLaws


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-admm"


class TestByLBFGS(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return ADMM(ADMMOptions(l2=1e-3))


class TestBySGD(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return ADMM(ADMMOptions(l1=1e-3, local="sgd", local_epochs=2, learning_rate=0.3))
