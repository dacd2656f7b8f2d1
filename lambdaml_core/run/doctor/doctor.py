"""All looks, one after another: what was found, and what of it was mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lambdaml_core.errors import LambdaMLError
from lambdaml_core.findings import Finding, SupportsChecks
from lambdaml_core.run.doctor.environment import environment_looks
from lambdaml_core.run.doctor.look import Look, findings, mend
from lambdaml_core.run.doctor.machine import machine_looks
from lambdaml_core.run.doctor.plugins import plugin_looks
from lambdaml_core.run.doctor.space import space_looks
from lambdaml_core.run.doctor.storages import storage_looks
from lambdaml_core.run.doctor.subject import Asked, Subject, subject_look

PATIENCE_S = 20
"""After so long a look is given up."""

_ORDER = ("data", "store", "store and channel", "channel", "default store")  # data tells how large messages are


@dataclass(frozen=True)
class Found:
    """What one look found.

    Attributes:
        findings: as the thing is now, after what was mended.
        mended: findings that were there before, and whose fix has been called.
    """

    look: Look
    findings: list[Finding]
    mended: list[Finding]


def examine(
    asked: Asked, *, seconds: float = PATIENCE_S, fix: bool = False, on_look: Callable[[Look], None] = lambda _: None
) -> Iterator[Found]:
    """Look at everything. Raises nothing on account of what is looked at.

    Args:
        seconds: after which a look is given up.
        fix: call the fixes of what is not well, and look again.
        on_look: called before each look, some of which take seconds.
    """
    for look in _looks(asked):
        on_look(look)
        yield _found(look, seconds, fix)


def _found(look: Look, seconds: float, fix: bool) -> Found:
    found = findings(look, seconds)
    ill = [f for f in found if fix and f.fix is not None and f.state != "ok"]
    if not ill:
        return Found(look, found, [])
    failed = {id(f): wrong for f in ill if (wrong := mend(look, f, seconds)) is not None}
    return Found(look, [*findings(look, seconds), *failed.values()], [f for f in ill if id(f) not in failed])


def _looks(asked: Asked) -> Iterator[Look]:
    """Each is made from what those before it have found out."""
    subject = Subject()
    yield from environment_looks(subject)
    yield from plugin_looks()
    yield subject_look(asked, subject)
    if subject.job is not None:
        yield from _provider_looks(subject)
    source, *others = space_looks(subject)
    yield source  # which tells how much room is needed
    for named in sorted(subject.storages, key=lambda named: _ORDER.index(named.role)):
        yield from storage_looks(named, subject)
    yield from machine_looks(subject)
    yield from others


def _provider_looks(subject: Subject) -> Iterator[Look]:
    assert subject.job is not None  # noqa: S101  (for the type checker)
    name = subject.job.provider.name
    common: dict[str, Any] = {"group": "provider", "subject": name, "blame": f"ask the authors of the provider {name}"}
    yield Look(what="plan", find=lambda _: _plan(subject), **common)
    yield Look(what="checks", find=lambda _: _provider_checks(subject), **common)


def _plan(subject: Subject) -> Iterator[Finding]:
    from lambdaml_core.run.driver.needs import job_for_provider

    job = subject.job
    if job is None:
        return
    try:
        wanted = job_for_provider(job)
    except LambdaMLError:  # of a storage that no plugin can use: it is told where that is looked at
        return
    plan = job.provider.build().plan(wanted)
    subject.scope = str(plan.get("scope", "network"))
    limit = plan.get("max_duration_s")
    said = (
        f"{job.workers} workers that meet on one {subject.scope}"
        if subject.scope != "network"
        else f"{job.workers} workers that meet on the network"
    )
    yield Finding(what="plan", state="ok", said=said + (f", each for {limit:g} s at a time" if limit else ""))


def _provider_checks(subject: Subject) -> Iterator[Finding]:
    """What its plugin knows to look at."""
    provider = subject.job.provider.build() if subject.job is not None else None
    if isinstance(provider, SupportsChecks):
        yield from provider.checks()
