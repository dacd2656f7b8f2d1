"""What importing a plugin brings along, seen in a fresh interpreter, and what its distribution says that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_SCRIPT = """
import importlib, json, sys
from lambdaml_core.discovery import RECORDS, new_manager

def top(modules):
    return {module.partition(".")[0] for module in modules}

report, hooks, *names = sys.argv[1:]
manager, before = new_manager(), top(sys.modules)
for name in names:
    module = importlib.import_module(name)
    if hooks == "hooks":
        manager.register(module)
for hook in RECORDS:
    for records in getattr(manager.hook, hook)():
        list(records)
with open(report, "w") as file:
    json.dump(sorted(top(sys.modules) - before - set(sys.stdlib_module_names)), file)
"""


def imported_by(folder: Path, modules: Iterable[str], *, hooks: bool = False) -> set[str]:
    """Packages, beside Python's and LambdaML's own, that are imported when these modules are.

    Args:
        folder: for the answer; what a plugin prints is in nobody's way.
        hooks: the modules are plugins; their hooks are called too.
    """
    answer = folder / "imported.json"
    words = [str(answer), "hooks" if hooks else "", *modules]
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(  # noqa: S603 - this Python, and modules of the plugin that is tested
        [sys.executable, "-c", _SCRIPT, *words],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"a fresh Python cannot import {', '.join(modules)}:\n{done.stderr}")
    return set(json.loads(answer.read_text())) - {"lambdaml_core"}


def requirements(distribution: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What it needs on this machine, with these of its extras."""
    for line in metadata.requires(distribution) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield needed


def undeclared(distribution: str, packages: Iterable[str]) -> dict[str, list[str]]:
    """Of imported packages, those that a distribution installs which this one does not need, with that distribution's
    names. Of what nobody has installed, such as a checkout, nothing can be told."""
    allowed = _needed(distribution, set())
    installed = metadata.packages_distributions()
    owners = {package: installed.get(package, []) for package in packages}
    return {
        package: names
        for package, names in owners.items()
        if names and not allowed & {canonicalize_name(name) for name in names}
    }


def _needed(distribution: str, seen: set[tuple[str, frozenset[str]]], extras: frozenset[str] = frozenset()) -> set[str]:
    """The distribution and all that it needs, and what these need."""
    name = canonicalize_name(distribution)
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    names: set[str] = {name}
    try:
        for needed in requirements(name, extras):
            names |= _needed(needed.name, seen, frozenset(needed.extras))
    except metadata.PackageNotFoundError:  # it is needed and not there: importing it fails by itself
        pass
    return names
