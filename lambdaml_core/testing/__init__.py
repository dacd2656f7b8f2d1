"""Conformance suites for plugin authors (``pip install "lambdaml[testing]"``): subclass, give one fixture, run pytest.

``lambdaml_core.testing.storage`` has the laws of a storage, ``lambdaml_core.testing.pattern`` those of a communicator.
"""

from __future__ import annotations

import pkgutil

import pytest

# Without this a law that fails in an author's run would not show the values that it compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
