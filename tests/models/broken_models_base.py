"""Where broken models start from: correct ones, and the suite that they are run by."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from lambdaml_core.builtin import LinearOptions, SVMOptions
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM
from lambdaml_core.testing.model import ModelLaws


class Broken:
    """A correct model for others to break.

    Attributes:
        law: that must fail.
        mistake: of an earlier system, where it is one, in a few words.
    """

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None


class BrokenClassifier(LogisticRegression, Broken):
    def __init__(self) -> None:
        super().__init__(LinearOptions())


class BrokenSVM(SVM, Broken):
    def __init__(self) -> None:
        super().__init__(SVMOptions())


class BrokenRegression(LeastSquares, Broken):
    def __init__(self) -> None:
        super().__init__(LinearOptions())


BrokenModel = type[BrokenClassifier] | type[BrokenSVM] | type[BrokenRegression]


def broken_of(module: str) -> list[BrokenModel]:
    """The broken models of a module."""
    bases: tuple[Any, ...] = (BrokenClassifier, BrokenSVM, BrokenRegression)
    return [each for base in bases for each in base.__subclasses__() if each.__module__ == module]


def suites_of(module: str) -> dict[str, type[ModelLaws]]:
    """The test classes of a module's broken models, by the names under which pytest finds them there."""
    return {f"Test{each.__name__}": _suite(each) for each in broken_of(module)}


def _suite(broken: BrokenModel) -> type[ModelLaws]:
    class Suite(ModelLaws):
        target = "number" if issubclass(broken, LeastSquares) else "class"

        @pytest.fixture
        def model(self) -> Model:
            return broken()

    return Suite
