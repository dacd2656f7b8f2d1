"""Whose health it is: a job, or what a job would have that says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdaml_core.errors import LambdaMLError
from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor.look import Look

if TYPE_CHECKING:
    from lambdaml_core.run.job import Job


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user has asked to be looked at; None = what a job has by default.

    Attributes:
        job: a job file.
        store, channel, provider: replace those of the job.
    """

    job: Path | None = None
    store: str | None = None
    channel: str | None = None
    provider: str | None = None


class Named(NamedTuple):
    """A storage, and what it is to be.

    Attributes:
        role: ``store``, ``channel``, ``data``, or ``default store``, where runs are looked for.
    """

    role: str
    url: str


@dataclass
class Subject:
    """What is known so far; looks write it, and later ones read it.

    Attributes:
        job: checked; None where none can be made.
        given: it is the user's, and not one of defaults.
        storages: those to look at.
        scope: how far storage must reach; by the provider's plan.
        message_bytes: of one message; 0 = not known.
        source_bytes: of the files that a partition is to be made of.
        broken: libraries that cannot be imported, which may end a process that tries.
    """

    job: Job | None = None
    given: bool = False
    storages: list[Named] = field(default_factory=list)
    scope: str = "process"
    message_bytes: int = 0
    source_bytes: int = 0
    broken: set[str] = field(default_factory=set)

    def room_of(self, role: str) -> int:
        """Bytes that a storage must have free for the job, as far as is known."""
        from lambdaml_core.run.driver.scratch import retain_bytes, room_for_messages

        room = 0
        if "store" in role:  # a partition is about as large as what it is made of
            room += self.source_bytes
        if "channel" in role and self.job is not None:
            retained = retain_bytes(self.job, self.message_bytes)
            room += room_for_messages(self.job.workers, self.message_bytes, retained)
        return room


def subject_look(asked: Asked, subject: Subject) -> Look:
    """Reads the job, and says what is wrong with it."""

    def find(_: threading.Event) -> Iterator[Finding]:
        from lambdaml_core.run.job import Job

        options, wrong = _options(asked)
        yield from wrong
        given: dict[str, Any] = {key: value for key, value in options.items() if getattr(asked, key)}
        if subject.broken:  # numpy would be imported to see what data.source is
            given["data"] = None
        try:
            if asked.job is not None:
                subject.job, subject.given = Job.from_toml(asked.job, given), True
        except LambdaMLError as e:
            yield _wrong("job", e)
        if subject.job is None:  # memory:// stands for a store that is wrong: it is not looked at
            subject.job = Job.from_mapping({"store": "memory://doctor"} | options)
        subject.storages = list(_storages(subject.job, options.get("store"), subject.given))
        yield from _said(asked, subject)

    return Look(group="job", what="job", find=find, remedy="see what is said of plugins")


def _options(asked: Asked) -> tuple[dict[str, str], list[Finding]]:
    """The keys of a job that are asked for, and the default store; those that are wrong as findings."""
    from lambdaml_core.registry import default_registry
    from lambdaml_core.run.job import default_store, storage_url

    checks: dict[str, Callable[[], str]] = {
        "store": lambda: storage_url(asked.store or default_store(), "--store" if asked.store else "LAMBDAML_STORE")
    }
    if asked.channel is not None:
        checks["channel"] = lambda: storage_url(asked.channel or "", "--channel")
    if asked.provider is not None:
        checks["provider"] = lambda: default_registry().resolve("provider", asked.provider or "").name
    good: dict[str, str] = {}
    wrong = []
    for key, check in checks.items():
        try:
            good[key] = check()
        except LambdaMLError as e:
            wrong.append(_wrong(key, e))
    return good, wrong


def _said(asked: Asked, subject: Subject) -> Iterator[Finding]:
    job = subject.job
    if job is not None and subject.given:
        said = f"{asked.job}: {job.model.name} by {job.optimizer.name}, {job.workers} workers of {job.provider.name}"
        yield Finding(what="job", state="ok", said=said)


def _storages(job: Job, store: str | None, given: bool) -> Iterator[Named]:
    """Each once, by the most that it is to be."""
    named = {}
    if given and "://" in (job.data.source or ""):
        named[job.data.source or ""] = "data"
    if store is not None:
        named[store] = "default store" if given else "store"
    if job.channel is not None:
        named[job.channel] = "channel"
    if given:
        named[job.store] = "store"
    if job.channel == job.store:
        named[job.store] = "store and channel"
    for url, role in named.items():
        yield Named(role, url)


def _wrong(what: str, e: LambdaMLError) -> Finding:
    remedy = e.hint or "lambdaml train --template prints a job with every key explained"
    return Finding(what=what, state="problem", said=e.message, remedy=remedy)
