"""Scikit-learn's own checks of what an estimator must be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from lambdaml_core.estimators import SVM, LeastSquares, LogisticRegression

NEEDS_A_PROCESS = "check_array_api_input"  # in which scipy's array API is switched on before scipy is imported


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


def test_scikit_learns_check_of_array_apis_passes() -> None:
    code = (
        "from lambdaml_core.estimators import *\n"
        f"from sklearn.utils.estimator_checks import {NEEDS_A_PROCESS}\n"
        "for kind in (LogisticRegression, SVM, LeastSquares):\n"
        f"    {NEEDS_A_PROCESS}(kind.__name__, kind(), 'numpy')\n"
    )
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
