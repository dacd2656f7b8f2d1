"""The Python interface: train on arrays or files, get the model and its figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambdaml_core.errors import JobError
from lambdaml_core.run.driver import Event, run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records import RunRecord, model_files
from lambdaml_core.run.saved import SavedModel, decode

__all__ = ["TrainedRun", "train"]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that ended well.

    Attributes:
        model: the trained model: ``predict``, ``predict_proba``, ``evaluate``, ``save``.
        record: all that is known about the run, as ``lambdaml show --json`` prints it: times, bytes, requests.
        history: figures at the end of each epoch, in order.
    """

    model: SavedModel
    record: RunRecord
    history: Sequence[Mapping[str, Any]]

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={value:.4g}" for name, value in self.metrics.items() if value is not None)
        return f"<TrainedRun {self.record['run']}: {self.record['rounds']} rounds, {figures}>"

    @property
    def metrics(self) -> dict[str, float | None]:
        """Figures of the validation rows, and ``train_loss``; None where one has no meaning."""
        r = self.record
        return {
            "loss": r["loss"],
            "accuracy": r["accuracy"],
            "auc": r["auc"],
            "baseline_accuracy": r["baseline_accuracy"],
            "train_loss": r["train_loss"],
        }


def train(
    x: Any,
    y: Any = None,
    *,
    data: Mapping[str, Any] | None = None,
    model: str | Mapping[str, Any] | None = None,
    optimizer: str | Mapping[str, Any] | None = None,
    provider: str | Mapping[str, Any] | None = None,
    name: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    rounds: int | None = None,
    aggregators: int | str | None = None,
    store: str | None = None,
    channel: str | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> TrainedRun:
    """Train a model and wait for it.

    The keywords are the keys of a job file; those left out have the defaults that ``lambdaml train --template`` shows.
    A table is a mapping, such as ``optimizer={"name": "ga_sgd", "learning_rate": 0.5}``, or a name alone.

    Args:
        x: rows, (n, features), a dense array or a ``scipy.sparse`` matrix; or a path of a file; or a path or URL of a
            partition; or a :class:`Job`, which leaves nothing else to say.
        y: (n,) labels of any kind, where x is rows.
        on_event: called with each event of the run, in this thread.

    Raises:
        UsageError: something is wrong with the job or the data; the message says what. Nothing was started.
        RunError: a worker failed, or the run was cancelled.
    """
    keys: dict[str, Any] = {
        "data": data,
        "model": model,
        "optimizer": optimizer,
        "provider": provider,
        "name": name,
        "seed": seed,
        "workers": workers,
        "batch_size": batch_size,
        "epochs": epochs,
        "rounds": rounds,
        "aggregators": aggregators,
        "store": store,
        "channel": channel,
    }
    job, arrays = _job(x, y, {k: v for k, v in keys.items() if v is not None})
    history: list[Event] = []

    def record_event(event: Event) -> None:
        if event["event"] == "epoch":
            history.append(event)
        if on_event is not None:
            on_event(event)

    record = run_job(job, arrays=arrays, on_event=record_event)
    return TrainedRun(decode(model_files(record["store"], record["run"])), record, history)


def _job(x: Any, y: Any, keys: dict[str, Any]) -> tuple[Job, tuple[Any, Any] | None]:
    """The job, and the arrays to train on where x is not something to read from."""
    if isinstance(x, Job):
        if y is not None or keys:
            raise JobError(f"a Job is complete: {', '.join(keys) or 'y'} cannot be given beside it", hint=_REPLACE)
        return x, None
    if not isinstance(x, str | os.PathLike):
        if y is None:
            raise JobError("labels are missing: train(x, y)", hint="a file or a URL has its labels in it; rows do not")
        return Job.from_mapping(keys), (x, y)
    if y is not None:
        raise JobError("y cannot be given beside a file or a URL", hint="they have their labels in them")
    source = {"source": os.fspath(x)}
    return Job.from_mapping({**keys, "data": {**keys.get("data", {}), **source}}), None


_REPLACE = "make the change in the job"
