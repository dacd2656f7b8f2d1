"""The storages of a subject: whether they can be what they are to be, and how they do."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lambdaml_core.errors import NotSupported
from lambdaml_core.findings import Finding, SupportsChecks
from lambdaml_core.run.doctor import space
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.subject import Named, Subject

if TYPE_CHECKING:
    from lambdaml_core.run.spec import Place
    from lambdaml_core.specs import Reference
    from lambdaml_core.storage import FullStorage
    from lambdaml_core.storage.base import StorageCaps

_ENV = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_UNREACHED = "see whether it runs, and can be reached from here: its address, credentials, and firewalls between"


def storage_looks(named: Named, subject: Subject) -> Iterator[Look]:
    """Every look at one storage, each given when those before it have been made."""
    storage = _Examined(named, subject)
    common: dict[str, Any] = {
        "group": named.role,
        "subject": named.url,  # a job has no literal secret
        "remedy": _UNREACHED,
        "blame": f"ask the authors of its plugin; {_check(named.url)}",
    }
    yield Look(what="setup", find=lambda _: storage.setup(), **common)
    if not storage.ready:
        return
    yield Look(what="checks", find=lambda _: storage.checks(), **common)  # first: what is mended there can be used
    if named.role == "data":
        yield Look(what="partition", find=lambda _: storage.partition(), **common)
    else:
        yield Look(what="use", find=storage.use, **common)


class _Examined:
    """One storage.

    Attributes:
        ready: it could be built.
    """

    def __init__(self, named: Named, subject: Subject) -> None:
        self._role, self._url, self._subject = named.role, named.url, subject
        self.ready = False

    def setup(self) -> Iterator[Finding]:
        """Whether its variables are set, its plugin is there, and it says of itself that it can do what is wanted.

        Raises:
            LambdaMLError: its plugin is missing, or an option is wrong.
        """
        from lambdaml_core.storage import StorageURL

        credentials = [_credential(name) for name in dict.fromkeys(_ENV.findall(self._url))]
        yield from credentials
        if any(finding.state == "problem" for finding in credentials):
            return
        self._build().close()
        self.ready = True
        yield from self._fits_role()
        needed = self._subject.room_of(self._role)
        yield from space.of_storage(StorageURL.parse(self._url).resolved(), self._role, needed)

    def use(self, stop: threading.Event) -> Iterator[Finding]:
        """Use it, and measure."""
        from lambdaml_core.run.doctor.measure import use
        from lambdaml_core.storage import StorageURL

        folder = space.folder_of(StorageURL.parse(self._url).resolved())
        with space.left_as_it_was(folder):
            storage = self._open()
            try:
                near = self._subject.scope != "network"
                lists = "store" in self._role
                yield from use(storage, stop, lists=lists, near=near, folder=folder, check=_check(self._url))
            finally:
                storage.close()

    def checks(self) -> Iterator[Finding]:
        """What its plugin knows to look at, and those of layers around it."""
        from lambdaml_core.storage import StorageURL, build_storage

        url, reference = StorageURL.parse(self._url), self._reference()
        while reference is not None:
            with contextlib.closing(build_storage(url.text(), reference)) as storage:
                if isinstance(storage, SupportsChecks):
                    yield from storage.checks()
            url, reference = url.inner(), reference.inner

    def partition(self) -> Iterator[Finding]:
        """Read the manifest of the partition to train on, and see whether the job goes with it.

        Raises:
            DataError, JobError: there is none, or it does not.
        """
        if self._subject.broken:  # as is said where libraries are looked at
            return
        from lambdaml_core.data.shards import Manifest
        from lambdaml_core.run.driver.plan import check_data, make_plan

        storage = self._open()
        try:
            manifest = Manifest.load(storage)
        finally:
            storage.close()
        if self._subject.job is not None:
            with contextlib.suppress(NotSupported):  # as is said where store and channel are looked at
                self._subject.message_bytes = check_data(make_plan(self._subject.job), manifest)
        yield Finding(what="partition", state="ok", said=f"{manifest.rows} rows of {manifest.features} features")

    def _fits_role(self) -> Iterator[Finding]:
        from lambdaml_core.run.driver.places import check_channel, check_store

        job, scope = self._subject.job, self._subject.scope
        if job is None or self._role == "data":
            return
        if "store" in self._role:
            yield _fits("store", lambda: check_store(dataclasses.replace(job, store=self._url), scope))
        if "channel" in self._role or (self._role == "store" and job.channel is None and scope == "network"):
            yield _fits("channel", lambda: check_channel(self._url, job, scope))

    def _build(self) -> Any:
        """The storage as its author wrote it."""
        from lambdaml_core.storage import build_storage

        return build_storage(self._url, self._reference())

    def _reference(self) -> Reference | None:
        from lambdaml_core.storage import storage_reference

        return storage_reference(self._url, channel=self._role == "channel")

    def _open(self) -> FullStorage:
        from lambdaml_core.run.trial import briefly

        return briefly(self._build())


def _check(url: str) -> str:
    return f"lambdaml plugins check {shlex.quote(url)} shows which law it breaks"


def _credential(name: str) -> Finding:
    remedy = f"export {name}=..., here and where the workers run"
    if name not in os.environ:
        return Finding(what="credentials", state="problem", said=f"{name} is not set", remedy=remedy)
    if not os.environ[name]:
        return Finding(what="credentials", state="warning", said=f"{name} is set, and empty", remedy=remedy)
    return Finding(what="credentials", state="ok", said=f"{name} is set")


def _fits(role: str, check: Callable[[], tuple[Place, StorageCaps]]) -> Finding:
    try:
        _, caps = check()
    except NotSupported as e:
        return Finding(what=role, state="problem", said=e.message, remedy=e.hint)
    reach = {"process": "the threads of one process", "host": "the processes of one machine", "network": "the network"}
    return Finding(what=role, state="ok", said=f"can be a {role}, for {reach[caps.scope]}")
