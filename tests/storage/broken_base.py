"""Where ``broken_values.py`` and ``broken_many.py`` start from: a correct storage, and the suites that it is run by."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Parts, Storage
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws

NETWORK_S = 1e-4
"""What a step takes on a real service; others come in between."""

names = itertools.count()


class Broken(MemoryStorage):
    """A correct storage for the others to break."""

    law: ClassVar[str]

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(MemoryStorage.put_many(self, {key: data}, if_absent=if_absent))


class _Laws(StorageLaws):
    patience_s = 1.0
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def connect(self) -> Callable[[], Storage]:
        url = StorageURL("memory", f"broken-{os.getpid()}-{next(names)}")
        return lambda: self.broken(url, NoOptions())


class _UnreachableLaws(UnreachableStorageLaws):
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def unreachable(self) -> Callable[[], Storage]:
        return lambda: self.broken(StorageURL("memory", "nowhere"), NoOptions())


def laws_of(broken: type[Broken]) -> type[Any]:
    """The test class of a broken storage; pytest finds it by its name."""
    base = _Laws if hasattr(StorageLaws, broken.law) else _UnreachableLaws
    return type(f"Test{broken.__name__}", (base,), {"broken": broken, "__module__": __name__})


def suites_of(module: str) -> dict[str, type[Any]]:
    """The test classes of the broken storages of a module, by the names under which pytest finds them there."""
    return {f"Test{each.__name__}": laws_of(each) for each in Broken.__subclasses__() if each.__module__ == module}
