"""The provider contract: who runs the workers. All that crosses a process is JSON and holds no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


class WorkerRef(NamedTuple):
    """The whole payload of an invocation.

    Attributes:
        store: URL of the store, secrets written ``{env:NAME}``.
        storage: the plugin that serves it, a :class:`~lambdaml_core.specs.Reference` as JSON: what a worker needs
            before it can read anything.
        run: name of the run.
        generation: which start of all its workers together.
        rank: which worker.
        attempt: which process of that rank.
        spec_sha256: hash of the job specification in the store, checked before anything is imported.
    """

    store: str
    storage: Mapping[str, Any]
    run: str
    generation: int
    rank: int
    attempt: int
    spec_sha256: str


class Launcher(Protocol):
    """The half of a provider that travels with the workers."""

    def launch(self, ref: WorkerRef) -> str:
        """Start a worker, at least once; a duplicate is harmless. Returns its handle.

        Where the ``scope`` of the plan is ``network``, a driver calls it in up to 16 threads at once.

        Raises:
            LaunchFailed: it cannot be started. A driver tries again for a while, unless the exit code of the error is
                that of wrong usage.
        """

    def handle(self) -> str:
        """The handle of the worker that this is called in, by which every process of the provider can find it."""

    def remaining_s(self) -> float:
        """Seconds this process may still run; infinity where there is no limit."""


class Provider(Protocol):
    """Built as ``factory(options)``. What it makes is described by handles and by the deployment, so that a process
    which launched nothing can follow, cancel and clean up a run."""

    @property
    def options(self) -> Any:
        """What it was built with: its class and these build the same provider in any other process.

        Where ``max_duration_s`` is among them, it sets that of the plan.
        """

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """What would be made: resources, permissions, dollars. Makes no remote call and nothing else.

        Args:
            job: the job as JSON, and what workers need that it does not say itself: ``entry``, the
                ``"module:function"`` that a worker runs; ``modules``, the top-level packages that it imports plugins
                from, ``lambdaml_core`` among them; ``environment``, the names of all ``{env:NAME}`` in its URLs.

        Returns:
            JSON, the same each time but for names that are drawn anew. Read by others, all but ``scope`` optional:

            - ``scope``: how far storage must reach for these workers to meet, by the words of ``StorageCaps``;
            - ``max_duration_s``: how long one process of a worker may run; None = without limit;
            - ``usd_per_worker_s``, ``usd_per_launch``, ``usd_per_log_byte``: prices in US dollars of one worker for a
              second, of one start of it, and of a byte that it prints; 0 where one is left out;
            - ``start_s``: seconds from a launch to the first round, about; 0 where it is left out;
            - ``resources``: what :meth:`deploy` would make, a line each;
            - ``permissions``: JSON policies by who needs them, such as ``worker`` and ``user``;
            - ``facts``: whatever else a person is to read, by name, such as the size of a package.
        """

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make it; idempotent. Returns JSON that a :meth:`launcher` is built from, equal for an equal plan."""

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        """The launcher of a deployment, in this or another process."""

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """``running``, ``succeeded``, ``failed`` or ``unknown`` for each handle: a hint, records decide.

        ``failed`` may be followed by a colon and the reason; it is also said of a worker that is gone, however it
        ended, where its exit code cannot be had. Who cannot look (it is on another machine) says ``unknown``.
        """

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        """Lines that the workers printed, attempt after attempt; nothing where they cannot be had from here.

        Args:
            rank: of one worker; None = of all.
            since_s: unix time; what was printed before may be left out.
        """

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        """End these workers of the run, and those that they have started meanwhile, where that can be done from here.

        Idempotent; those that have ended are no error. Workers also look for the run's flag themselves.
        """

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        """Remove what :meth:`deploy` made. Returns what had to be left."""


@runtime_checkable
class SupportsKill(Protocol):
    """A provider whose workers can be killed from here without warning: what ``train --chaos`` needs."""

    def kill(self, handle: str) -> bool:
        """SIGKILL, or what comes nearest. Returns whether the worker was running."""


@runtime_checkable
class SupportsDeployments(Protocol):
    """A provider whose deployments can outlive runs: what ``lambdaml deploy`` and ``lambdaml teardown`` need."""

    def keep(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """As :meth:`Provider.deploy`, for runs to come: theirs use it, and their ends leave it alone. Idempotent: what
        differs from the plan is updated in place."""

    def remove(self, plan: Mapping[str, Any] | None) -> Removed:
        """Remove what was kept for jobs of this plan; None = all that this provider has ever made, that of runs too,
        in the place that its options name. Idempotent."""


class Removed(NamedTuple):
    """What :meth:`SupportsDeployments.remove` did, a line for each thing, such as ``role lambdaml-income-1f0c``.

    Attributes:
        removed: what is gone.
        left: what is not, and why.
    """

    removed: Sequence[str]
    left: Sequence[str]


@runtime_checkable
class SupportsEstimates(Protocol):
    """A provider that can tell what a job would take and cost elsewhere, such as on machines that are rented."""

    def estimates(self, job: Mapping[str, Any], work: Work) -> Mapping[str, Mapping[str, Any]]:
        """By name: ``seconds`` and ``usd`` of the whole job, and ``said``, how that was found. No remote call."""


class Work(NamedTuple):
    """What a job has to do, as far as it is known before anything is started.

    Attributes:
        workers: of the job.
        rounds: at most; None = not known.
        message_bytes: of parameters or gradients in a round.
        data_bytes: of all rows; 0 = not known.
    """

    workers: int
    rounds: int | None
    message_bytes: int
    data_bytes: int
