"""The driver: plans a job, launches its workers, watches them, and writes down how the run ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from lambdaml_core.run.job import Job
from lambdaml_core.run.records import RunRecord

Event = Mapping[str, Any]
"""A JSON object with ``event``, ``run`` and ``time_s`` (seconds since 1970)."""


def run_job(
    job: Job,
    *,
    arrays: tuple[Any, NDArray[Any]] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> RunRecord:
    """Run a job to its end.

    Args:
        arrays: (x, y) to train on, instead of ``job.data.source``: x (n, features) a dense array or a scipy sparse
            matrix, y (n,) labels of any kind.
        on_event: called in this thread with ``partitioned``, ``launched``, ``progress`` (about twice a second),
            ``epoch`` and ``ended``.

    Raises:
        UsageError: the job cannot work; nothing was launched.
        WorkerFailed: a worker ended with an error; the record of the failed run is in the store.
        RunCancelled: interrupted by Ctrl-C or SIGTERM; no worker is left, and the run is marked.
    """
    raise NotImplementedError
