"""Scikit-learn's own checks of what an estimator must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from lambdaml_core.estimators import SVM, LeastSquares, LogisticRegression

# It looks at estimators under scipy's array API, which has to be switched on before scipy is imported, and skips.
NEEDS_A_PROCESS = "check_array_api_input"


def checks() -> list[tuple[Any, Callable[[Any], None]]]:
    """Every check for every estimator."""
    pairs = [pair for kind in (LogisticRegression, SVM, LeastSquares) for pair in estimator_checks_generator(kind())]
    return [(estimator, check) for estimator, check in pairs if _name(check) != NEEDS_A_PROCESS]


def _name(check: Any) -> str:
    while not hasattr(check, "__name__"):
        check = check.func  # of a partial
    return str(check.__name__)


@pytest.mark.parametrize(
    ("estimator", "check"), checks(), ids=lambda value: _name(value) if callable(value) else type(value).__name__
)
def test_scikit_learns_checks_pass(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
