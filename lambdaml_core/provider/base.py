"""The provider contract: who runs the workers. All that crosses a process is JSON and holds no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class WorkerRef(NamedTuple):
    """The whole payload of an invocation.

    Attributes:
        store: URL of the store, secrets written ``{env:NAME}``.
        storage: the plugin that serves it, a :class:`~lambdaml_core.specs.Reference` as JSON: what a worker needs
            before it can read anything.
        run: name of the run.
        rank: which worker.
        attempt: which process of that rank.
        spec_sha256: hash of the job specification in the store, checked before anything is imported.
    """

    store: str
    storage: Mapping[str, Any]
    run: str
    rank: int
    attempt: int
    spec_sha256: str


class Launcher(Protocol):
    """The half of a provider that travels with the workers."""

    def launch(self, ref: WorkerRef) -> str:
        """Start a worker, at least once. Returns a handle."""

    def remaining_s(self) -> float:
        """Seconds this process may still run; infinity where there is no limit."""


class Provider(Protocol):
    """Built as ``factory(options)``."""

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """What would be made: resources, permissions, dollars. Makes no remote call and nothing else.

        Args:
            job: the job as JSON, and ``entry``, the ``"module:function"`` that a worker runs.

        Returns:
            JSON; ``scope`` is how far storage must reach for these workers to meet, by the words of ``StorageCaps``.
        """

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make it; idempotent. Returns JSON that a :meth:`launcher` is built from."""

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        """The launcher of a deployment, in this or another process."""

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """``running``, ``succeeded``, ``failed`` or ``unknown`` for each handle: a hint, results decide.

        ``failed`` may be followed by a colon and the reason.
        """

    def logs(self, run: str, rank: int | None, since_s: float) -> Iterator[str]:
        """What the workers printed."""

    def cancel(self, run: str) -> None:
        """End all workers of the run. Idempotent."""

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        """Remove what :meth:`deploy` made. Returns what had to be left."""
