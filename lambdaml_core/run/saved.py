"""Trained models on disk: ``model.safetensors`` has the parameters, ``model.json`` all that is needed to use them.

Both are functions of the model alone. No run, host or time is in them, so equal models are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError, KeyNotFound, ModelError, OutputExists, StorageDenied, StorageFull
from lambdaml_core.models.base import Model
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage

__all__ = ["DESCRIPTION", "WEIGHTS", "SavedModel", "decode", "encode", "load", "save_files"]

FORMAT = "lambdaml-model"
VERSION = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


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
        features: columns of the rows it was trained on.
        labels: the user's value of each class, in the order of class numbers.
        preprocessing: what is done to raw rows before the model sees them; JSON.
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


def load(path: str | os.PathLike[str]) -> SavedModel:
    """Load a model from the directory that it was saved to, or from the URL of a run's model.

    Raises:
        ModelError: nothing there, not a model, damaged, or made by another version.
        PluginError: the plugin that provides the model is not installed.
    """
    where = os.fspath(path)
    read = _reader(where)
    files = {}
    for name in (DESCRIPTION, WEIGHTS):
        try:
            files[name] = read(name)
        except (FileNotFoundError, NotADirectoryError, KeyNotFound) as e:
            raise ModelError(f"there is no model at {where}: {name} is missing", hint=_AGAIN) from e
        except OSError as e:
            raise ModelError(f"{where}: {name} cannot be read: {e.strerror}") from e
    return decode(files, where=where)


def _reader(where: str) -> Callable[[str], bytes]:
    if "://" not in where:
        return lambda name: (Path(where) / name).read_bytes()
    storage = open_storage(where)
    return lambda name: bytes(storage.get(name))


def decode(files: Mapping[str, bytes], *, where: str = "the model") -> SavedModel:
    """The model in ``files``, which :func:`encode` made.

    The plugin is looked up by name: nothing that a file says is imported.

    Raises:
        ModelError, PluginError: as :func:`load`; ``where`` is named in the message.
    """
    from lambdaml_core.registry import default_registry

    description = _describe(files[DESCRIPTION], where)
    try:
        name, options = description["model"]["name"], description["model"]["options"]
        features, labels = int(description["features"]), list(description["labels"])
        preprocessing, metrics = dict(description["preprocessing"]), dict(description["metrics"])
        checksum = description["sha256"][WEIGHTS]
    except (KeyError, TypeError, ValueError) as e:
        raise ModelError(f"{where}: {DESCRIPTION} lacks what a model needs: {e}", hint=_AGAIN) from e
    if hashlib.sha256(files[WEIGHTS]).hexdigest() != checksum:
        raise ModelError(f"{where}: {WEIGHTS} is damaged: its checksum is not the one in {DESCRIPTION}", hint=_AGAIN)
    if preprocessing:
        raise ModelError(f"{where}: needs preprocessing that this version cannot do", hint=_NEWER)
    reference = default_registry().resolve("model", name, options, where="model")
    return SavedModel(_params(files[WEIGHTS], where), reference, features, labels, preprocessing, metrics)


_AGAIN = "give the directory of a model, or copy or save the model again"
_NEWER = "install a newer lambdaml"


def _describe(data: bytes, where: str) -> dict[str, Any]:
    try:
        description = json.loads(data)
    except ValueError as e:
        raise ModelError(f"{where}: {DESCRIPTION} is damaged: {e}", hint=_AGAIN) from e
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelError(f"{where}: {DESCRIPTION} does not describe a LambdaML model", hint=_AGAIN)
    if description.get("version") != VERSION:
        raise ModelError(f"{where}: model format {description.get('version')!r}, known is {VERSION}", hint=_NEWER)
    return description


def _params(weights: bytes, where: str) -> NDArray[Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as read

    try:
        params: NDArray[Any] = read(weights)["params"]
    except (SafetensorError, KeyError) as e:
        raise ModelError(f"{where}: {WEIGHTS} has no parameters of a model: {e}", hint=_AGAIN) from e
    return params


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A trained classifier, which takes and gives what its user has: raw rows and their own labels.

    Attributes:
        params: (p,) the parameters, in the order of the model; for linear models the weights, then the bias.
        model: which model they belong to, with its options.
        features: columns of a row.
        labels: the user's value of each class.
        preprocessing: what is done to raw rows first.
        metrics: validation figures at the end of training.
    """

    params: NDArray[Any]
    model: Reference
    features: int
    labels: list[Label]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<SavedModel {self.model.name}: {self.features} features, labels {self.labels}>"

    def predict_proba(self, x: ArrayLike | Any) -> NDArray[Any]:
        """(n, classes) probabilities of each class, rows adding to 1.

        Args:
            x: (n, features) dense or ``scipy.sparse``.

        Raises:
            DataError: not two-dimensional, other features than the model's, NaN or infinite.
        """
        p = self._built().predict(self.params, self._batch(x))
        return np.stack([1 - p, p], axis=1) if p.ndim == 1 else p

    def predict(self, x: ArrayLike | Any) -> NDArray[Any]:
        """(n,) the most probable class of each row, in the user's own values.

        Args, Raises: as :meth:`predict_proba`.
        """
        classes: NDArray[np.intp] = np.argmax(self.predict_proba(x), axis=1)
        return np.asarray(self.labels)[classes]

    def evaluate(self, x: ArrayLike | Any, y: ArrayLike) -> Mapping[str, float]:
        """Figures on these rows, such as ``loss``, ``accuracy``, ``auc`` and ``baseline_accuracy``.

        Args:
            x: (n, features) dense or ``scipy.sparse``.
            y: (n,) labels in the user's own values.

        Raises:
            DataError: as :meth:`predict_proba`; or other lengths, no rows, or a label that the model does not know.
        """
        batch = self._batch(x)
        numbers = self._class_numbers(y)
        if len(numbers) != batch.n or batch.n == 0:
            raise DataError(f"x has {batch.n} rows and y {len(numbers)}", hint="give one label for each row")
        model = self._built()
        return model.metrics(model.score(self.params, batch._replace(y=numbers)))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save into the new directory ``path``, all or nothing; see :func:`save_files` for errors."""
        return save_files(path, self.files())

    def files(self) -> Mapping[str, bytes]:
        """The model's files by name; equal models give equal bytes."""
        return encode(
            self.params,
            model=self.model,
            features=self.features,
            labels=self.labels,
            preprocessing=self.preprocessing,
            metrics=self.metrics,
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of ``model.safetensors``: equal for models of equal parameters."""
        return hashlib.sha256(self.files()[WEIGHTS]).hexdigest()

    def _built(self) -> Model:
        built: Model = self.model.build()
        return built

    def _batch(self, x: Any) -> Batch:
        from lambdaml_core.data.arrays import rows_batch  # a worker that writes a model predicts nothing

        batch = rows_batch(x)
        features = int(batch.x.shape[1])
        if features != self.features:
            raise DataError(
                f"the data has {features} features and the model was trained on {self.features}",
                hint="give the columns of the training data",
            )
        return batch

    def _class_numbers(self, y: ArrayLike) -> NDArray[np.float32]:
        known = {label: number for number, label in enumerate(self.labels)}
        try:
            return np.array([known[label] for label in np.asarray(y).tolist()], np.float32)
        except (KeyError, TypeError) as e:
            raise DataError(f"the model has no class {e}", hint=f"its classes are {self.labels}") from e
