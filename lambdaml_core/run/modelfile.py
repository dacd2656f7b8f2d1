"""The files of a trained model: ``model.safetensors`` has the parameters, ``model.json`` what is needed to use them.

Both are functions of the model alone. No run, host or time is in them, so equal models are equal bytes. They may come
from anywhere, so nothing in them is believed: what is read is checked, and nothing that a file names is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import Label
from lambdaml_core.data.stored import can_be_labels, parse_json
from lambdaml_core.errors import DataError, ModelError, OptionError, OutputExists, StorageDenied, StorageFull
from lambdaml_core.specs import Reference, Target

__all__ = ["DESCRIPTION", "TRY_AGAIN", "WEIGHTS", "Contents", "Shape", "encode", "parse_files", "save_files"]

FORMAT = "lambdaml-model"
VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
TRY_AGAIN = "give the directory of a model, or copy or save the model again"

_NEWER = "install a newer lambdaml"


def encode(
    params: NDArray[Any],
    *,
    model: Reference,
    features: int,
    labels: Sequence[Label],
    preprocessing: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Mapping[str, bytes]:
    """The files of a model by name.

    Args:
        params: (p,) the model's parameters, any float dtype.
        model: what they are parameters of.
        features: columns of the rows it was trained on, after preprocessing.
        labels: the user's value of each class, in the order of class numbers; none where the model learns numbers.
        preprocessing: what is done to raw rows before the model sees them, as
            :meth:`lambdaml_core.data.preprocess.Preprocessing.to_json` says it; None: nothing.
        metrics: validation figures; JSON.
    """
    from safetensors.numpy import save

    weights = save({"params": np.ascontiguousarray(params)})
    description = {
        "format": FORMAT,
        "version": VERSION,
        "model": {"name": model.name, "options": dict(model.values)},
        "features": features,
        "labels": list(labels),
        "preprocessing": dict(preprocessing or {}),
        "metrics": dict(metrics or {}),
        "sha256": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
    }
    return {WEIGHTS: weights, DESCRIPTION: (json.dumps(description, indent=2, sort_keys=True) + "\n").encode()}


def save_files(path: str | os.PathLike[str], files: Mapping[str, bytes]) -> Path:
    """Write a model's files into the new directory ``path``, all or nothing.

    Raises:
        OutputExists: there is something at ``path``; it stays as it is.
        StorageFull, StorageDenied: it could not be written; nothing is left behind.
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        raise OutputExists(f"{target} exists already", hint="choose another place, or remove it first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for name, data in files.items():
                (staging / name).write_bytes(data)
            staging.chmod(0o755)  # mkdtemp keeps others out; a model is read by others
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except FileExistsError as e:
        raise OutputExists(f"{target} or a folder on the way to it is a file", hint="choose another place") from e
    except PermissionError as e:
        raise StorageDenied(f"no permission to write {target}", hint="choose another place") from e
    except OSError as e:
        raise StorageFull(f"{target} cannot be written: {e.strerror}", hint="make room, or choose another place") from e
    return target


class Contents(NamedTuple):
    """What the files of a model say; see :func:`encode`. ``target``: what the model tells, a class or a number."""

    params: NDArray[Any]
    model: Reference
    target: Target
    features: int
    labels: tuple[Label, ...]
    preprocessing: Mapping[str, Any]
    metrics: Mapping[str, float]


def parse_files(files: Mapping[str, bytes], where: str) -> Contents:
    """Read and check the files that :func:`encode` made.

    Raises:
        ModelError: not a model, damaged, made by another version, or its parts do not fit together.
        PluginError: the plugin that provides the model is not installed.
    """
    try:
        return _contents(_description(files[DESCRIPTION]), files[WEIGHTS])
    except _Wrong as e:
        raise ModelError(f"{where}: {e}", hint=e.hint) from e.__cause__


class _Wrong(Exception):
    """What is wrong with the files of a model."""

    def __init__(self, message: str, hint: str = TRY_AGAIN) -> None:
        super().__init__(message)
        self.hint = hint


def _description(data: bytes) -> dict[str, Any]:
    try:
        description = parse_json(data)
    except ValueError as e:
        raise _Wrong(f"{DESCRIPTION} is damaged: {e}") from e
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _Wrong(f"{DESCRIPTION} does not describe a LambdaML model")
    if description.get("version") != VERSION:
        raise _Wrong(f"model format {description.get('version')!r:.60}, known is {VERSION}", _NEWER)
    return description


def _contents(description: Mapping[str, Any], weights: bytes) -> Contents:
    model = _value(description, "model", dict)
    name, options = _value(model, "name", str), _value(model, "options", dict)
    if hashlib.sha256(weights).hexdigest() != _value(description, "sha256", dict).get(WEIGHTS):
        raise _Wrong(f"{WEIGHTS} is damaged: its checksum is not the one in {DESCRIPTION}")
    reference, target = _model(name, options)
    features = _value(description, "features", int)
    labels = _labels(_value(description, "labels", list), target)
    preprocessing = _preprocessing(_value(description, "preprocessing", dict), features)
    metrics = _metrics(_value(description, "metrics", dict))
    params = _params(weights)
    _check_size(params, reference, features, len(labels))
    return Contents(params, reference, target, features, labels, preprocessing, metrics)


def _value(table: Mapping[str, Any], key: str, kind: type) -> Any:
    if type(table.get(key)) is not kind:  # True is no int
        raise _Wrong(f"{DESCRIPTION} lacks what a model needs: {key} is {table.get(key)!r:.60}")
    return table[key]


def _model(name: str, options: Mapping[str, Any]) -> tuple[Reference, Target]:
    from lambdaml_core.registry import default_registry  # who writes a model needs no registry
    from lambdaml_core.specs import ModelSpec

    spec = default_registry().find("model", name)
    assert isinstance(spec, ModelSpec)  # noqa: S101 - the registry looks by kind
    try:
        return Reference.of(spec, options, where="model"), spec.target
    except OptionError as e:
        raise _Wrong(e.message, _NEWER) from e


def _labels(labels: Sequence[Any], target: Target) -> tuple[Label, ...]:
    if not can_be_labels(labels):
        raise _Wrong(f"{DESCRIPTION} has labels that are not distinct numbers or words")
    if target == "none":  # those of the partition that it was trained on mean nothing to it
        return ()
    if (len(labels) < 2) if target == "class" else labels:
        raise _Wrong(f"{DESCRIPTION} has {len(labels)} labels for a model that tells a {target}")
    return tuple(labels)


def _preprocessing(stored: Mapping[str, Any], features: int) -> Mapping[str, Any]:
    if not stored:
        return stored
    from lambdaml_core.data.preprocess import Preprocessing

    try:
        made = Preprocessing.from_json(stored)
    except DataError as e:
        raise _Wrong(f"{DESCRIPTION} has preprocessing that cannot be done: {e.message}") from e
    if made.features != features:
        raise _Wrong(f"{DESCRIPTION} has preprocessing that makes other features than the model's {features}")
    return stored


def _metrics(metrics: Mapping[str, Any]) -> Mapping[str, float]:
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Wrong(f"{DESCRIPTION} has the figure {name} = {value!r:.60}, which is no number")
    return metrics


def _params(weights: bytes) -> NDArray[Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        params: NDArray[Any] = load(weights)["params"]
    except (SafetensorError, KeyError) as e:
        raise _Wrong(f"{WEIGHTS} has no parameters of a model: {e}") from e
    if params.ndim != 1 or params.dtype.kind != "f" or not np.isfinite(params).all():
        raise _Wrong(f"{WEIGHTS} has parameters that are no list of finite numbers")
    return params


def _check_size(params: NDArray[Any], model: Reference, features: int, classes: int) -> None:
    if not 0 < features <= params.size:  # before a model makes room for as many as a file says
        raise _Wrong(f"{WEIGHTS} has {params.size} parameters for a model of {features} features")
    try:
        wanted = model.build().init(Shape(features, classes), np.random.default_rng(0)).size
    except NoRowsHere:  # a model that starts from rows: it alone knows
        return
    except (DataError, MemoryError, ValueError) as e:
        raise _Wrong(f"{DESCRIPTION} describes no model that can be: {e}") from e
    if wanted != params.size:
        raise _Wrong(f"{WEIGHTS} has {params.size} parameters, and the model has {wanted}")


class NoRowsHere(Exception):
    """A model asked for rows where there are only numbers of rows and columns."""


@dataclass(frozen=True)
class Shape:
    """Data as far as they are known without rows: what a model's ``init`` may look at in most cases."""

    features: int
    classes: int
    rows: int = 0
    steps_per_epoch: int = 1

    def batch(self, step: int) -> Batch:
        raise NoRowsHere

    def blocks(self) -> Iterator[Batch]:
        raise NoRowsHere
