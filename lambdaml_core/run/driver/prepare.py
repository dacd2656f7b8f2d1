"""What a run needs before it is launched: its rows, the parameters it goes on from, its specification."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.frames import frame_schema
from lambdaml_core.data.partition import partition
from lambdaml_core.data.shards import MANIFEST_KEY, Manifest
from lambdaml_core.data.sources import data_files, format_of
from lambdaml_core.errors import DataError, JobError
from lambdaml_core.options import nearest
from lambdaml_core.run.driver.aggregators import Settled
from lambdaml_core.run.driver.plan import Plan
from lambdaml_core.run.driver.preflight import look_for
from lambdaml_core.run.driver.scratch import retain_bytes
from lambdaml_core.run.job import Job
from lambdaml_core.run.saved import SavedModel, load
from lambdaml_core.run.spec import Place, Spec
from lambdaml_core.run.worker.training import evaluation_period
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, StorageURL
from lambdaml_core.storage.layers import Prefix

Arrays: TypeAlias = tuple[Any, Any]
"""Rows and their labels, as :func:`~lambdaml_core.data.arrays.write_arrays` takes them."""

_LITTLE_ROWS, _LITTLE_BYTES = 10_000, 1 << 20


class Prepared(NamedTuple):
    """A partition to train on.

    Attributes:
        place, prefix: where it is.
        made: whether it was made for this run.
    """

    place: Place
    prefix: str
    manifest: Manifest
    made: bool


# --- going on from a model ------------------------------------------------------------------------------------


def load_initial(job: Job, given: SavedModel | None) -> SavedModel | None:
    """The model to go on from: the one given from Python, or the one that the job names.

    Raises:
        JobError: both are there, or the job trains another model.
        ModelError: there is no model there.
    """
    if given is not None and job.init_from is not None:
        raise JobError("init_from is given twice")
    saved = load(job.init_from) if job.init_from is not None else given
    if saved is not None and (saved.model.name, saved.model.values) != (job.model.name, job.model.values):
        raise JobError(
            f"init_from is a {_words(saved.model)}, and the job trains a {_words(job.model)}",
            hint="give model as it was when the saved one was trained",
        )
    return saved


def _words(model: Reference) -> str:
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in model.values.items())
    return f"{model.name} ({options})" if options else model.name


def check_initial(saved: SavedModel, data: Prepared) -> None:
    """Refuse rows that are not like those that the model has been trained on.

    Raises:
        DataError: other features, labels or preprocessing.
    """
    manifest = data.manifest
    hint = "give data.source as it is, without a partition, or partition it as it was for that model"
    if data.made:
        hint = "give the columns that the model was trained on"
    if saved.features != manifest.features:
        raise DataError(
            f"the data has {manifest.features} features, and init_from was trained on {saved.features}", hint=hint
        )
    if saved.target != "none" and tuple(saved.labels) != manifest.labels:
        raise DataError(
            f"the data has the labels {_some(manifest.labels)}, and init_from was trained on {_some(saved.labels)}",
            hint=hint,
        )
    if _text(saved.preprocessing) != _text(manifest.preprocessing):
        raise DataError("the rows were preprocessed in another way than those of init_from", hint=hint)


def _text(preprocessing: Mapping[str, Any] | None) -> str:
    """Equal for equal preprocessing, and for none, whether it comes from a file or not."""
    return json.dumps(preprocessing or {}, sort_keys=True)


def _some(labels: Any) -> str:
    text = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
    return text or "of numbers"


# --- rows -----------------------------------------------------------------------------------------------------


def prepare_data(
    plan: Plan,
    run: str,
    store: FullStorage,
    arrays: Arrays | None,
    initial: SavedModel | None,
    progress: Callable[[int, int], None],
) -> Prepared:
    """The partition to train on: one that exists, or one made below ``data/`` in the run's part of the store.

    Raises:
        DataError, OptionError, StorageError: as ``partition`` and ``write_arrays``; or there is no partition.
    """
    job, source = plan.job, plan.job.data.source
    if source is not None and "://" in source:
        place = Place.of(source)
        return Prepared(place, "", read_manifest(place), made=False)
    out = Prefix(store, "data")
    if arrays is not None:
        arrays, format = _labelled(*arrays, job.data.format, needed=plan.target != "none")
    settings: dict[str, Any] = {
        "shards": job.data.shards or (1 if _is_little(source, arrays) else job.workers),
        "seed": job.seed,
        "validation": job.data.validation,
        "target": plan.target,
    }
    if initial is not None:
        settings |= {"preprocessing": initial.preprocessing or None, "labels": tuple(initial.labels) or None}
    if arrays is not None:
        manifest = write_arrays(*arrays, out, format=format, **settings)
    else:
        assert source is not None  # noqa: S101  (run_job has checked)
        features = initial.features if initial is not None else None
        format = _widened(job.data.format or format_of(source), job.data.features or features)
        manifest = partition(source, out, format=format, progress=progress, **settings)
    return Prepared(plan.store, f"runs/{run}/data", manifest, made=True)


def _labelled(x: Any, y: Any, format: Reference | None, *, needed: bool) -> tuple[Arrays, Reference | None]:
    """Rows and labels, which may be a column of a frame, and how the other columns are taken.

    Args:
        needed: whether there must be labels.

    Raises:
        JobError: labels are missing or given twice, or the format is one of files.
    """
    if format is not None and format.name != "frame":
        raise JobError(
            f"data.format = {format.name} is for files, and x is rows", hint='for the columns of a frame it is "frame"'
        )
    label = format.values["label"] if format is not None else None
    if format is None or label is None:
        if y is None and needed:
            raise JobError(
                "labels are missing: train(x, y)",
                hint='or name the column of a frame: data={"format": {"name": "frame", "label": "y"}}',
            )
        return (x, y), format
    if not hasattr(x, "columns"):
        raise DataError(f"x has no column {label} of labels", hint="data.format.label names a column of a frame")
    if y is not None:
        raise JobError(f"labels are given twice: as y and as column {label} of x", hint="leave one of them out")
    name = frame_schema(x, format.build().options).label
    (column,) = (c for c in x.columns if str(c) == name)
    others = dataclasses.replace(format, values={**format.values, "label": None})
    return (x.drop(columns=[column]), x[column]), others


def _widened(format: Reference, features: int | None) -> Reference:
    """The format told how many columns there are, where it can be told and was not."""
    if features is None or format.values.get("features", 0) is not None:
        return format
    return dataclasses.replace(format, values={**format.values, "features": features})


def _is_little(source: str | None, arrays: Arrays | None) -> bool:
    """Whether all rows go into one shard: quicker, and fewer rows than workers are then told as what they are."""
    try:
        if arrays is not None:
            return int(arrays[0].shape[0]) < _LITTLE_ROWS
        return sum(file.stat().st_size for file in data_files(source or "")) < _LITTLE_BYTES
    except (OSError, AttributeError, TypeError):
        return True  # who reads it says what is wrong with it


def read_manifest(place: Place) -> Manifest:
    """The manifest of a partition.

    Raises:
        DataError: there is none.
        StorageError: it cannot be reached.
    """
    look_for(place, "partition", MANIFEST_KEY)
    store = place.open()
    try:
        return Manifest.load(store)
    except DataError as e:
        raise DataError(f"{StorageURL.parse(place.url)}: {e.message}", hint=e.hint) from e
    finally:
        store.close()


# --- the specification ----------------------------------------------------------------------------------------


def make_spec(
    plan: Plan,
    run: str,
    channel: Place,
    data: Prepared,
    initial: SavedModel | None,
    message_bytes: int,
    settled: Settled,
    code: str | None = None,
) -> Spec:
    """The specification of a run.

    Raises:
        JobError: as :func:`count_rounds` and :func:`class_weights`.
    """
    job, manifest = plan.job, data.manifest
    rounds, steps_per_round, steps_per_epoch = count_rounds(job, manifest.rows)
    return Spec(
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=job.seed,
        workers=job.workers,
        batch_size=job.batch_size,
        rounds=rounds,
        steps_per_round=steps_per_round,
        evaluate=job.evaluate or evaluation_period(rounds, math.ceil(steps_per_epoch / steps_per_round)),
        stop=job.stop,
        checkpoint=dataclasses.replace(job.checkpoint, retain_bytes=retain_bytes(job, message_bytes)),
        recovery=dataclasses.replace(job.recovery, heartbeat_s=plan.heartbeat_s),
        limits=job.limits,
        class_weight=class_weights(job.class_weight, manifest),
        code=code,
        initial=initial.sha256 if initial is not None else None,
        aggregators=settled.aggregators,
        aggregators_reason=settled.reason,
        store=plan.store,
        channel=channel,
        model=job.model,
        optimizer=job.optimizer,
        pattern=job.communicator,
        provider=job.provider,
        scope=plan.scope,
        data=data.place,
        data_prefix=data.prefix,
        data_checksum=manifest.checksum,
        usd=plan.usd,
        job=job.to_mapping(),
    )


def count_rounds(job: Job, rows: int) -> tuple[int, int, int]:
    """The most rounds of a run, mini-batches of a round, and mini-batches of a pass.

    Raises:
        JobError: one round is longer than the epochs.
    """
    steps_per_epoch = -(-rows // job.batch_size)
    steps_per_round = int(job.optimizer.build().steps_per_round(steps_per_epoch))
    if job.epochs is not None and steps_per_round > job.epochs * steps_per_epoch:
        raise JobError(
            f"one round of {job.optimizer.name} is {steps_per_round} mini-batches, and epochs = {job.epochs} are "
            f"{job.epochs * steps_per_epoch}",
            hint=f"exchange sooner by the options of {job.optimizer.name}, or give rounds instead of epochs",
        )
    limits = [job.rounds, job.epochs and math.ceil(job.epochs * steps_per_epoch / steps_per_round)]
    return min(limit for limit in limits if limit is not None), steps_per_round, steps_per_epoch


def class_weights(wanted: str | Mapping[str, float] | None, manifest: Manifest) -> tuple[float, ...] | None:
    """What a row of each class number counts; None = 1 for every row.

    ``balanced`` is N / (classes * rows of the class), by the rows to train on, as in scikit-learn. Classes that are
    not named count 1.

    Raises:
        JobError: rows are labelled with numbers, or a label is not among the data's.
    """
    if wanted is None:
        return None
    if not manifest.classes:
        raise JobError("class_weight needs classes, and the data has numbers to learn", hint="leave class_weight out")
    if isinstance(wanted, str):
        return tuple(manifest.rows / (manifest.classes * max(1, count)) for count in manifest.counts)
    weights = dict.fromkeys(map(str, manifest.labels), 1.0)
    for label, weight in wanted.items():
        name = label if label in weights else _whole(label)
        if name not in weights:
            raise JobError(f"class_weight names {label}, which is no label of the data", hint=nearest(label, weights))
        weights[name] = weight
    return tuple(weights.values())


def _whole(label: str) -> str:
    """The name of a label that is 1.0 where it was given and 1 in the data."""
    with contextlib.suppress(ValueError):
        return str(int(float(label))) if float(label).is_integer() else label
    return label
