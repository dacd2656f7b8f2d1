"""A plugin with storages of which each has its way to trouble whoever checks it; values are files of a folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from lambdaml_core.builtin import FileOptions
from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.options import NoOptions
from lambdaml_core.specs import ModelSpec, StorageSpec
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.file import FileStorage
from lambdaml_core.testing import pytest_plugin

LAMBDAML_API = 0

LAWS = 3
"""A few laws are tried, and then there is trouble: so these checks are short."""


class Deadly(FileStorage):
    """The process ends in the middle of a law."""

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        self.url = url
        super().__init__(StorageURL("file", path=url.path), FileOptions(sync=False))

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        stored = super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)
        law = re.match(r"lambdaml-check-[0-9a-f]+/(?P<number>\d+)/", key)
        if law is not None and int(law["number"]) > LAWS:
            os.kill(os.getpid(), signal.SIGKILL)
        return stored


class Silent(Deadly):
    """It answers nothing."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        threading.Event().wait()
        return False


class Stuck(Deadly):
    """It gets nothing, and nothing that is raised meanwhile ends that."""

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        pytest_plugin.GRACE_S = 0.5  # in the process of the check
        super().__init__(url, options)

    def get(self, key: str) -> Buffer:
        while True:
            with contextlib.suppress(BaseException):
                threading.Event().wait()


class Away(Deadly):
    """It cannot be reached, and says so with its password."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        raise StorageUnavailable(f"no answer to {self.url.text()}", hint=f"is {self.url.password} right?")


class Talkative(Deadly):
    """It raises what it may not, and says its password with that."""

    def get(self, key: str) -> Buffer:
        raise RuntimeError(f"{self.url.text()} {self.url.password!r}")


class Keeping(Deadly):
    """It deletes nothing."""

    def delete(self, keys: Iterable[str]) -> None:
        for _ in keys:
            pass


STORAGES = (Deadly, Silent, Stuck, Away, Talkative, Keeping)


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    for storage in STORAGES:
        name = storage.__name__.lower()
        yield StorageSpec(name=name, schemes=(name,), factory=f"checked_storages:{storage.__name__}", summary="trouble")


@hookimpl
def lambdaml_models() -> Iterator[ModelSpec]:
    yield ModelSpec(name="absent", factory="checked_storages:Absent", summary="what it names is not there")
    yield ModelSpec(name="away", factory="lambdaml_core.models.svm:SVM", summary="it has the name of a storage")


def install(folder: Path, name: str, module: str) -> None:
    """Make the folder one in which a distribution is installed, once it is on the path."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lambdaml]\n{name.removeprefix('lambdaml-')} = {module}\n")
