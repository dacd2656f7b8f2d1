"""GA-SGD and MA-SGD keep the laws of an optimizer, with options of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from sgd_ranks import alone, begin, problem, shares, workers

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
from lambdaml_core.testing.optimizer import OptimizerLaws


class TestGASGD(OptimizerLaws):
    exact = True

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return GASGD(GASGDOptions(learning_rate=0.2))


class TestGASGDWithEverything(OptimizerLaws):
    exact = True

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return GASGD(
            GASGDOptions(
                learning_rate=0.2, momentum=0.9, nesterov=True, l1=1e-3, l2=1e-3, accumulate=2, schedule="cosine"
            )
        )


class TestMASGD(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return MASGD(MASGDOptions(learning_rate=0.2, l1=1e-3))


class TestMASGDAtRest(OptimizerLaws):
    """Momentum that begins anew in each round."""

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return MASGD(MASGDOptions(learning_rate=0.2, momentum=0.9, l2=1e-3, local_steps=2, schedule="cosine"))


class TestMASGDWithItsOwnMomentum(OptimizerLaws):
    """Private state, which replays bring forward too."""

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return MASGD(
            MASGDOptions(learning_rate=0.1, momentum=0.9, nesterov=True, keep_momentum=True, local_steps=2, l2=1e-3)
        )


MOMENTUM: dict[str, Any] = {"momentum": 0.9}


@pytest.mark.parametrize(
    ("optimizer", "shared", "private"),
    [
        (GASGD(GASGDOptions()), set(), set()),
        (GASGD(GASGDOptions(**MOMENTUM)), {"velocity"}, set()),
        (MASGD(MASGDOptions()), set(), set()),
        (MASGD(MASGDOptions(**MOMENTUM)), set(), set()),
        (MASGD(MASGDOptions(**MOMENTUM, keep_momentum=True)), set(), {"velocity"}),
    ],
)
def test_state_is_what_is_needed_and_starts_at_rest(optimizer: Optimizer, shared: set[str], private: set[str]) -> None:
    """Private state would make replays compute; what is shared, each checkpoint writes."""
    (data,) = shares(*problem(100), batch_size=10)
    (worker,) = workers(LogisticRegression(LinearOptions()), data, alone(), 1)
    state = begin(optimizer, worker)
    assert (set(state.shared), set(state.private)) == (shared, private)
    assert not any(array.any() for array in (*state.shared.values(), *state.private.values()))
