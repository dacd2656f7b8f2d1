"""The built-in models keep the laws of models, with every option that changes what they compute."""

from __future__ import annotations

import pytest

from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM
from lambdaml_core.testing.model import ModelLaws


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def bias(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestLogisticRegression(ModelLaws):
    classes = (2, 4)

    @pytest.fixture
    def model(self, bias: bool) -> Model:
        return LogisticRegression(LinearOptions(bias=bias))


@pytest.mark.parametrize("options", [SVMOptions(), SVMOptions(bias=False, loss="squared_hinge")], ids=lambda o: o.loss)
class TestSVM(ModelLaws):
    @pytest.fixture
    def model(self, options: SVMOptions) -> Model:
        return SVM(options)


class TestLeastSquares(ModelLaws):
    target = "number"

    @pytest.fixture
    def model(self, bias: bool) -> Model:
        return LeastSquares(LinearOptions(bias=bias))
