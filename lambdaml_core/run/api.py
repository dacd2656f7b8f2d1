"""The Python interface: train on arrays or files, get the model and its figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lambdaml_core.errors import JobError
from lambdaml_core.run.driver.driver import Event, run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.history import Rounds, rounds_of
from lambdaml_core.run.records.records import RunRecord, model_files
from lambdaml_core.run.saved import SavedModel, decode

__all__ = ["TrainedRun", "train"]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that ended well.

    Attributes:
        model: the trained model: ``predict``, ``predict_proba``, ``evaluate``, ``save``.
        record: all that is known about the run, as ``lambdaml show --json`` prints it: times, bytes, requests.
        history: figures at the end of each epoch, in order.
        rounds: columns of all rounds: their losses, seconds, and what else the optimizer says of them.
    """

    model: SavedModel
    record: RunRecord
    history: Sequence[Mapping[str, Any]]
    rounds: Rounds

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={value:.4g}" for name, value in self.metrics.items() if value is not None)
        return f"<TrainedRun {self.record['run']}: {self.record['rounds']} rounds, {figures}>"

    @property
    def metrics(self) -> dict[str, float | None]:
        """The model's figures of the validation rows, and ``train_loss``; None where one has no meaning."""
        r = self.record
        return {**r["metrics"], "train_loss": r["train_loss"]}


def train(
    x: Any,
    y: Any = None,
    *,
    data: Mapping[str, Any] | None = None,
    model: str | Mapping[str, Any] | None = None,
    optimizer: str | Mapping[str, Any] | None = None,
    communicator: str | None = None,
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
    evaluate: int | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    init_from: TrainedRun | SavedModel | str | os.PathLike[str] | None = None,
    stop: Mapping[str, float] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    recovery: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    code: Sequence[str] | None = None,
    on_round: Callable[[Event], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> TrainedRun:
    """Train a model and wait for it.

    The keywords are the keys of a job file; those left out have the defaults that ``lambdaml train --template`` shows.
    A table is a mapping, such as ``optimizer={"name": "ga_sgd", "learning_rate": 0.5}``, or a name alone. Numbers may
    be numpy's.

    Args:
        x: rows, (n, features), a dense array, a ``scipy.sparse`` matrix or a pandas frame; or a path of a file, of a
            folder of files or with wildcards; or a path or URL of a partition; or a :class:`Job`, which leaves nothing
            else to say.
        y: (n,) labels of any kind, where x is rows; not needed for a frame that has them in the column which
            ``data={"format": {"name": "frame", "label": COLUMN}}`` names.
        init_from: a model to go on from: one in memory, the run that trained it or its name, or where one was saved.
        on_round: called in this thread with every round, in order and some time after it was done:
            ``{"run", "round", "loss", "seconds", "figures"}``, rounds from 1, seconds since the first began, figures
            what else the optimizer says of a round. An exception of it cancels the run, as one of ``on_event`` does,
            and is raised.
        on_event: called in this thread with each event of the run, as
            :func:`~lambdaml_core.run.driver.driver.run_job` does.

    Raises:
        UsageError: something is wrong with the job or the data; the message says what. Nothing was started.
        RunError: a worker failed, or the run was cancelled.
    """
    keys: dict[str, Any] = {
        "data": data,
        "model": model,
        "optimizer": optimizer,
        "communicator": communicator,
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
        "evaluate": evaluate,
        "class_weight": class_weight,
        "init_from": os.fspath(init_from) if isinstance(init_from, str | os.PathLike) else None,
        "stop": stop,
        "checkpoint": checkpoint,
        "recovery": recovery,
        "limits": limits,
        "code": code,
    }
    initial = _initial(init_from)
    job, arrays = _job(x, y, {k: _plain(v) for k, v in keys.items() if v is not None})
    for keyword, function in {"on_round": on_round, "on_event": on_event}.items():
        if function is not None and not callable(function):
            raise JobError(f"{keyword} must be a function, not {function!r}", hint=f"such as {keyword}=print")
    history: list[Event] = []
    rounds_told: list[Event] = []

    def record_event(event: Event) -> None:
        if event["event"] == "epoch":
            history.append(event)
        if event["event"] == "rounds":
            rounds_told.append(event)
            if on_round is not None:
                for done in _each_round(event):
                    on_round(done)
        if on_event is not None:
            on_event(event)

    record = run_job(job, arrays=arrays, initial=initial, on_event=record_event)
    model_trained = decode(model_files(record["store"], record["run"]))
    return TrainedRun(model_trained, record, history, rounds_of(rounds_told))


def _each_round(event: Event) -> Iterator[Event]:
    """What one event says of several rounds, one by one."""
    for i, (loss, seconds) in enumerate(zip(event["loss"], event["seconds"], strict=True)):
        figures = {name: column[i] for name, column in event["figures"].items()}
        yield {
            "run": event["run"],
            "round": event["first"] + i,
            "loss": loss,
            "seconds": seconds,
            "figures": figures,
        }


def _initial(init_from: Any) -> SavedModel | None:
    """The model to go on from where it is in memory; where it was saved is a matter of the job."""
    if isinstance(init_from, TrainedRun):
        return init_from.model
    if init_from is None or isinstance(init_from, SavedModel):
        return init_from
    if isinstance(init_from, str | os.PathLike):
        return None
    raise JobError(
        f"init_from cannot be of type {type(init_from).__name__}",
        hint="give a model, such as run.model, the directory or URL that one was saved to, or the name of a run",
    )


def _plain(value: Any) -> Any:
    """A setting as a job takes it: computed ones, as in a search over parameters, are often numpy's numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _job(x: Any, y: Any, keys: dict[str, Any]) -> tuple[Job, tuple[Any, Any] | None]:
    """The job, and the arrays to train on where x is not something to read from."""
    if isinstance(x, Job):
        if y is not None or keys:
            raise JobError(f"a Job is complete: {', '.join(keys) or 'y'} cannot be given beside it", hint=_REPLACE)
        return x, None
    if not isinstance(x, str | os.PathLike):
        return Job.from_mapping(keys), (x, y)
    if y is not None:
        raise JobError("y cannot be given beside a file or a URL", hint="they have their labels in them")
    source = {"source": os.fspath(x)}
    return Job.from_mapping({**keys, "data": {**keys.get("data", {}), **source}}), None


_REPLACE = "make the change in the job"
