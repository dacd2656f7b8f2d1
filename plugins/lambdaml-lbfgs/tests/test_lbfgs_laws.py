"""``lbfgs`` keeps the laws of an optimizer, and its distribution those of a plugin."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lambdaml_core.builtin import SVMOptions
from lambdaml_core.models.base import Model
from lambdaml_core.models.svm import SVM
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.testing.optimizer import OptimizerLaws
from lambdaml_core.testing.optimizer_laws.training import Training
from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_lbfgs.optimizer import LBFGS
from lambdaml_lbfgs.options import LBFGSOptions


class TestLBFGS(OptimizerLaws):
    """Most rounds are steps."""

    exact = True
    rounds = 6

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return LBFGS(LBFGSOptions(l2=1e-2, history=2))


class TestOWLQN(OptimizerLaws):
    exact = True
    rounds = 6

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return LBFGS(LBFGSOptions(l1=1e-2, history=3))


class TestSearches(OptimizerLaws):
    """The hinge has kinks, and few tries are allowed: searches go on over several rounds, and some fail."""

    exact = True
    rounds = 9

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return LBFGS(LBFGSOptions(l1=0.05, l2=0.2, tries=2, tolerance=0))

    @pytest.fixture
    def model(self) -> Model:
        return SVM(SVMOptions())

    def test_searches_of_this_class_take_several_rounds_and_fail(self, training: Training) -> None:
        training.run()
        states = training.witnesses[0].states[1:]
        waits = [a.params.tobytes() == b.params.tobytes() for a, b in pairwise(states)]
        pairs = [int(state.shared["pairs"][0]) for state in states]
        assert any(waits)
        assert any(later == 0 for earlier, later in pairwise(pairs) if earlier), pairs


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-lbfgs"
