"""A plugin that opens the storages of these tests, in any process: ``kit://MODULE/CLASS/place``."""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.options import NoOptions
from lambdaml_core.registry import default_registry
from lambdaml_core.specs import StorageSpec
from lambdaml_core.storage import StorageURL

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    yield StorageSpec(name="kit", schemes=("kit", "kit+unix"), factory="kit_storages:open_kit")


def open_kit(url: StorageURL, options: NoOptions) -> Any:
    """The class that the URL names, built for the rest of its path."""
    _, name, place = url.path.split("/", 2)
    cls = getattr(importlib.import_module(url.host), name)
    return cls(replace(url, host="", path=f"/{place}"), options)


def kit_url(module: str, cls: str, place: Path) -> str:
    """The URL of a storage of these tests; makes ``kit://`` known in this process. Others get the reference."""
    _install()
    return f"kit://{module}/{cls}{place}"


@functools.cache
def _install() -> None:
    with tempfile.TemporaryDirectory() as site:
        info = Path(site, "kit_storages-1.0.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit-storages\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[lambdaml]\nkit = kit_storages\n")
        sys.path.append(site)
        default_registry.cache_clear()
        default_registry()
        sys.path.remove(site)
