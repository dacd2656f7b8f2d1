"""Versions: Python, ourselves, what we need, and who else goes by our name."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import lambdaml_core
from lambdaml_core import __version__
from lambdaml_core.findings import Finding
from lambdaml_core.provider.local import import_path
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.requirements import Requirement, requirements, within
from lambdaml_core.run.doctor.subject import Subject

_NAME = "lambdaml"
_IMPORT_S = 60.0  # importing all of them from a cold disk
_IMPORTED = ("numpy", "scipy", "safetensors", "xxhash", "pluggy", "click", "rich")


def environment_looks(subject: Subject) -> list[Look]:
    """Every look of this module."""
    return [
        Look(group="environment", what="python", find=_python),
        Look(group="environment", what=_NAME, find=_ourselves),
        Look(group="environment", what="libraries", find=lambda _: _libraries(subject), seconds=_IMPORT_S + 5),
    ]


def _python(_: threading.Event) -> Iterator[Finding]:
    version, bounds = platform.python_version(), _python_bounds()
    if not within(version, bounds):
        remedy = f"make an environment with Python {bounds}, such as: uv venv --python {bounds.lstrip('>=')}"
        yield Finding(what="python", state="problem", said=f"{version} is not {bounds}", remedy=remedy)
    else:
        yield Finding(what="python", state="ok", said=f"{version}, {sys.executable}", values={"version": version})


def _python_bounds() -> str:
    ours = [d for d in _distributions() if _is_ours(d)]
    return str(ours[0].metadata.json.get("requires_python", "")) if ours else ""


# --- the distribution ----------------------------------------------------------------------------------------------


def _ourselves(_: threading.Event) -> Iterator[Finding]:
    found = _distributions()
    ours, foreign = [d for d in found if _is_ours(d)], [d for d in found if not _is_ours(d)]
    for other in foreign:
        yield Finding(
            what="foreign lambdaml",
            state="problem",
            said=f"{_NAME} {other.version} in {other.locate_file('')} is somebody else's project of the same name",
            remedy=f"pip uninstall {_NAME}, then pip install . in a LambdaML checkout",
        )
    if not foreign:
        yield from _foreign_module()
    if len(ours) > 1:
        places = " and ".join(f"{d.version} in {d.locate_file('')}" for d in ours)
        yield Finding(
            what="duplicate",
            state="problem",
            said=f"{_NAME} is installed {len(ours)} times: {places}",
            remedy=f"pip uninstall {_NAME} until none is left, then install it once",
        )
    yield _our_version(ours)


def _our_version(ours: list[metadata.Distribution]) -> Finding:
    place = Path(lambdaml_core.__file__).parent
    said = f"{__version__}, {place}"
    if not ours:
        remedy = f"pip install {place.parent}, so that commands and plugins find it"
        return Finding(what=_NAME, state="warning", said=f"{said}, which is not installed", remedy=remedy)
    if __version__ not in {d.version for d in ours}:
        said = f"{said}, and what pip knows is {ours[0].version} in {ours[0].locate_file('')}"
        return Finding(what=_NAME, state="warning", said=said, remedy=f"pip install {place.parent}, once more")
    return Finding(what=_NAME, state="ok", said=said, values={"version": __version__})


def _foreign_module() -> Iterator[Finding]:
    """A module that no distribution has: a file of this name on the path."""
    spec = importlib.util.find_spec(_NAME)
    if spec is not None and spec.origin is not None:
        said = f"import {_NAME} gives {spec.origin}, which is none of ours: LambdaML is imported as lambdaml_core"
        remedy = f"write import lambdaml_core; remove {spec.origin} if nobody needs it"
        yield Finding(what="foreign lambdaml", state="warning", said=said, remedy=remedy)


def _distributions() -> list[metadata.Distribution]:
    """Those of our name; what is on the path by two names counts once."""
    found = {(str(Path(str(d.locate_file(""))).resolve()), d.version): d for d in metadata.distributions(name=_NAME)}
    return list(found.values())


def _is_ours(distribution: metadata.Distribution) -> bool:
    return any(entry.value.startswith("lambdaml_core.") for entry in distribution.entry_points)


# --- what we need --------------------------------------------------------------------------------------------------


def _libraries(subject: Subject) -> Iterator[Finding]:
    ours = [d for d in _distributions() if _is_ours(d)]
    needed = list(requirements(ours[0])) if ours else []
    bounds = {r.name: r for r in needed if not r.extra}
    imported = _imported([*dict.fromkeys([*_IMPORTED, *bounds])])
    subject.broken = {name for name, seen in imported.items() if "error" in seen}
    for name, seen in imported.items():
        yield _library(bounds.get(name, Requirement(name, "", "")), seen)
    for optional in {r.name: r for r in needed if r.extra not in ("", "dev")}.values():
        version = optional.installed()
        if version is not None and not optional.allows(version):
            yield _outdated(optional, version, "warning")


def _library(needed: Requirement, seen: dict[str, Any]) -> Finding:
    name, version = needed.name, needed.installed() or seen.get("version")
    if "error" in seen:
        absent = needed.installed() is None
        said = "not installed" if absent else f"{version} cannot be imported: {seen['error']}"
        remedy = f'pip install "{needed}"' if absent else f'pip install --force-reinstall "{needed}"'
        return Finding(what=name, state="problem", said=said, remedy=remedy)
    if version is None:
        said = f"imported from {seen['file']}, which is no installed {name}"
        return Finding(what=name, state="warning", said=said, remedy="move what has the same name out of the way")
    if not needed.allows(version):
        return _outdated(needed, version, "problem")
    blas = f", {seen['blas']}" if "blas" in seen else ""
    threads = f" with {seen['threads']} threads" if seen.get("threads") else ""
    values = {key: seen[key] for key in ("blas", "threads") if seen.get(key)}
    return Finding(what=name, state="ok", said=f"{version}{blas}{threads}", values={"version": version} | values)


def _outdated(needed: Requirement, version: str, state: Any) -> Finding:
    said = f"{version} is not {needed.bounds}, which LambdaML needs"
    return Finding(what=needed.name, state=state, said=said, remedy=f'pip install "{needed}"')


def _imported(names: list[str]) -> dict[str, dict[str, Any]]:
    """What :mod:`~lambdaml_core.run.doctor.libraries` says of each; one that ends its process ends only that."""
    seen: dict[str, dict[str, Any]] = {}
    while left := [name for name in names if name not in seen]:
        seen |= _imported_by_one(left)
    return seen


def _imported_by_one(names: list[str]) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "lambdaml_core.run.doctor.libraries", *names]
    env = os.environ | {"PYTHONPATH": import_path()}
    try:
        done = subprocess.run(  # noqa: S603  (this interpreter, no shell)
            command, env=env, capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
        printed, ended = done.stdout, _how(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as e:
        printed = e.stdout.decode() if isinstance(e.stdout, bytes) else ""
        ended = f"it takes more than {_IMPORT_S:g} s"
    seen: dict[str, dict[str, Any]] = {}
    for line in printed.splitlines():
        if line.startswith('{"name": '):  # a library may print too
            said = json.loads(line)
            seen[said.pop("name")] = said
    for name in [name for name in names if name in seen and not seen[name]] or names[: not seen]:
        seen[name] = {"error": ended}
    return seen


def _how(code: int, errors: str) -> str:
    if code < 0:
        return f"its process is killed by {signal.Signals(-code).name}"
    last = errors.strip().rpartition("\n")[2]
    return f"its process ends with {code}: {last[:200]}"
