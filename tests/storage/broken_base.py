"""Where the broken storages start from: correct ones, and the suites that they are run by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from kit_storages import kit_url

from lambdaml_core.builtin import FileOptions
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.file import FileStorage
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws

NETWORK_S = 1e-4
"""What a step takes on a real service; others come in between."""

PATIENCE_S = 1.0


class Broken(MemoryStorage):
    """A correct storage for the others to break."""

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None
    """Of an earlier system, where it is one, in a few words."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(MemoryStorage.put_many(self, {key: data}, if_absent=if_absent))


class BrokenFiles(FileStorage):
    """The same for storages that several processes see."""

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, FileOptions(sync=False))


class _Laws(StorageLaws):
    patience_s = PATIENCE_S
    limit_s = 20.0
    sequences_s = 1e6  # which of them tells is chance: as many as it takes, on whatever machine
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return kit_url(self.broken.__module__, self.broken.__name__, tmp_path / "place")


class _UnreachableLaws(UnreachableStorageLaws):
    broken: ClassVar[type[Broken]]

    @pytest.fixture
    def url(self) -> str:
        return kit_url(self.broken.__module__, self.broken.__name__, Path("/nowhere"))


def laws_of(broken: type[Broken]) -> type[Any]:
    """The test class of a broken storage; pytest finds it by its name."""
    base = _Laws if hasattr(StorageLaws, broken.law) else _UnreachableLaws
    return type(f"Test{broken.__name__}", (base,), {"broken": broken, "__module__": __name__})


def suites_of(module: str) -> dict[str, type[Any]]:
    """The test classes of the broken storages of a module, by the names under which pytest finds them there."""
    return {f"Test{each.__name__}": laws_of(each) for each in broken_of(module)}


def broken_of(*modules: str) -> list[type[Broken]]:
    """The broken storages of these modules."""
    every: list[type[Any]] = [*Broken.__subclasses__(), *BrokenFiles.__subclasses__()]
    return [each for each in every if each.__module__ in modules]
