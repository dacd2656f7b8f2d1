"""Plugins: every one that is not well, and what it says that it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import metadata
from typing import Literal

from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.requirements import requirements

_UNUSABLE = ("broken", "incompatible", "conflict")
_SLOW = "a plugin hangs while it is imported: uninstall it, or export LAMBDAML_DISABLE_PLUGINS=NAME"


def plugin_looks() -> list[Look]:
    """Every look of this module."""
    return [
        Look(group="plugins", what="plugins", find=_plugins, remedy=_SLOW),
        Look(group="plugins", what="requirements", find=_requirements),
        Look(group="plugins", what="disabled", find=_disabled),
    ]


def _plugins(_: threading.Event) -> Iterator[Finding]:
    from lambdaml_core.registry import default_registry

    rows = default_registry().plugins()
    said: set[str | None] = {None}
    for row in rows:
        if row.problem not in said:  # a plugin that provides several things has them all in one state
            said.add(row.problem)
            state: Literal["problem", "warning"] = "problem" if row.state in _UNUSABLE else "warning"
            yield Finding(
                what=f"{row.kind} {row.name}",
                state=state,
                said=row.problem or "",
                remedy=row.remedy,
                values={"distribution": row.distribution, "version": row.version, "state": row.state},
            )
    well = [row for row in rows if row.state == "ok"]
    distributions = sorted({f"{row.distribution} {row.version}" for row in well})
    yield Finding(what="plugins", state="ok", said=f"{len(well)} ready, of {', '.join(distributions)}")


def _requirements(_: threading.Event) -> Iterator[Finding]:
    """What a plugin's distribution says that it needs, our own version among it."""
    from lambdaml_core.hookspecs import GROUP

    found = {entry.dist.name: entry.dist for entry in metadata.entry_points(group=GROUP) if entry.dist}
    for name, distribution in sorted(found.items()):
        for needed in requirements(distribution):
            version = None if needed.extra else needed.installed()
            if needed.extra or (version is not None and needed.allows(version)):
                continue
            said = f"{name} needs {needed}, and " + (f"{version} is installed" if version else "it is not installed")
            yield Finding(what=name, state="problem", said=said, remedy=f'pip install "{needed}"')


def _disabled(_: threading.Event) -> Iterator[Finding]:
    """A name in the variable that no plugin has switches nothing off."""
    from lambdaml_core.discovery import DISABLE, disabled
    from lambdaml_core.hookspecs import GROUP

    known = {"core", *(entry.name for entry in metadata.entry_points(group=GROUP))}
    for name in disabled():
        if name not in known:
            said = f"{DISABLE} names {name}, and no plugin has that name"
            yield Finding(what="disabled", state="warning", said=said, remedy=f"known: {', '.join(sorted(known))}")
