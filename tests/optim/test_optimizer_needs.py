"""What an optimizer needs of a model is checked before a run."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from lambdaml_core.builtin import GASGDOptions, LinearOptions
from lambdaml_core.errors import NotSupported
from lambdaml_core.models.base import SupportsProbabilities, SupportsStatistics
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.base import check_needs
from lambdaml_core.optim.ga_sgd import GASGD

LOGISTIC, SQUARES = LogisticRegression(LinearOptions()), LeastSquares(LinearOptions())


class Needy(GASGD):
    needs: ClassVar[frozenset[type]] = frozenset({SupportsProbabilities, SupportsStatistics})


class Modest(GASGD):
    needs: ClassVar[frozenset[type]] = frozenset({SupportsProbabilities})


@pytest.mark.parametrize(
    ("optimizer", "model", "lacking"),
    [
        (GASGD, LOGISTIC, None),
        (Modest, LOGISTIC, None),
        (Modest, SQUARES, "SupportsProbabilities"),
        (Needy, LOGISTIC, "SupportsStatistics"),
        (Needy, SQUARES, "SupportsProbabilities, SupportsStatistics"),
    ],
)
def test_what_is_lacking_is_named(optimizer: type[GASGD], model: Any, lacking: str | None) -> None:
    built = optimizer(GASGDOptions())
    if lacking is None:
        check_needs(built, model, ("ours", "theirs"))
        return
    with pytest.raises(NotSupported) as raised:
        check_needs(built, model, ("ours", "theirs"))
    assert raised.value.message == f"the optimizer ours cannot train the model theirs, which has no {lacking}"
