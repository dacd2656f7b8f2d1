"""The suites of the kit."""

from __future__ import annotations

import importlib
import pkgutil

from lambdaml_core import testing
from lambdaml_core.testing.base import Laws, laws_of


def suites() -> list[type[Laws]]:
    """The classes that authors subclass: those of the modules at the top of the kit."""
    tops = [
        importlib.import_module(f"{testing.__name__}.{each.name}") for each in pkgutil.iter_modules(testing.__path__)
    ]
    found = [each for top in tops for each in vars(top).values() if isinstance(each, type) and issubclass(each, Laws)]
    return [each for each in found if laws_of(each) and each.__module__.count(".") == 2]


SUITES = suites()
