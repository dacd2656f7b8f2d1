"""Trained models in use: predictions and figures for arrays, frames and files, in the values that their user has."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError, KeyNotFound, ModelError, NotSupported
from lambdaml_core.models.base import Model, SupportsProbabilities, total_score
from lambdaml_core.run.modelfile import (
    DESCRIPTION,
    TRY_AGAIN,
    WEIGHTS,
    Shape,
    encode,
    parse_files,
    save_files,
)
from lambdaml_core.specs import ModelSpec, Reference, Target
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.retry import FIRST_S

__all__ = ["DESCRIPTION", "WEIGHTS", "Predictions", "SavedModel", "decide", "decode", "encode", "load", "save_files"]


def load(path: str | os.PathLike[str]) -> SavedModel:
    """Load a model from the directory that it was saved to, or from the URL of a run's model.

    Raises:
        ModelError: nothing there, not a model, damaged, or made by another version.
        PluginError: the plugin that provides the model is not installed.
    """
    where = os.fspath(path) or "."
    files = {}
    with _reading(where) as read:
        for name in (DESCRIPTION, WEIGHTS):
            try:
                files[name] = read(name)
            except (FileNotFoundError, NotADirectoryError, KeyNotFound) as e:
                raise ModelError(f"there is no model at {where}: {name} is missing", hint=TRY_AGAIN) from e
            except OSError as e:
                raise ModelError(f"{where}: {name} cannot be read: {e.strerror}", hint=TRY_AGAIN) from e
    return decode(files, where=where)


@contextlib.contextmanager
def _reading(where: str) -> Iterator[Callable[[str], bytes]]:
    if "://" not in where:
        yield lambda name: _regular(Path(where) / name).read_bytes()
        return
    with contextlib.closing(open_storage(where, first_s=FIRST_S)) as storage:
        yield lambda name: bytes(storage.get(name))


def _regular(path: Path) -> Path:
    """A file that has an end: a folder of somebody else's may have a pipe or a link to a device in its place."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return path


def decode(files: Mapping[str, bytes], *, where: str = "the model") -> SavedModel:
    """The model in ``files``, which :func:`encode` made.

    The plugin is looked up by name: nothing that a file says is imported.

    Raises:
        ModelError, PluginError: as :func:`load`; ``where`` is named in the message.
    """
    found = parse_files(files, where)
    return SavedModel(found.params, found.model, found.features, list(found.labels), found.preprocessing, found.metrics)


class Predictions(NamedTuple):
    """What a model says of consecutive rows of a file.

    Attributes:
        values: (n,) classes in the user's own values, or numbers.
        probabilities: (n, classes), where they were asked for.
    """

    values: NDArray[Any]
    probabilities: NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A trained model, which takes and gives what its user has: raw rows and their own labels.

    Rows are an (n, features) array, dense or ``scipy.sparse``, or a frame of numbers. A model with preprocessing takes
    the raw columns by name instead, as a pandas frame or a mapping of names to sequences, and does with them what was
    done in training. All methods that take rows raise DataError where they are not such rows, have other features than
    the model's, or NaN or infinite numbers.

    Attributes:
        params: (p,) the parameters, in the order of the model; for linear models see ``coef`` and ``intercept``.
        model: which model they belong to, with its options.
        features: columns of a row, after preprocessing.
        labels: the user's value of each class; empty where the model predicts numbers.
        preprocessing: what is done to raw rows first; empty where nothing is.
        metrics: validation figures at the end of training.
    """

    params: NDArray[Any]
    model: Reference
    features: int
    labels: list[Label]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        says = f"labels {self.labels}" if self.labels else "predicts numbers"
        return f"<SavedModel {self.model.name}: {self.features} features, {says}>"

    @property
    def target(self) -> Target:
        """What it tells: the ``class`` of a row, or a ``number``; ``none``: it looks at no labels."""
        from lambdaml_core.registry import default_registry

        spec = default_registry().find("model", self.model.name)
        assert isinstance(spec, ModelSpec)  # noqa: S101 - the registry looks by kind
        return spec.target

    # --- rows in memory

    def predict(self, x: ArrayLike | Any) -> NDArray[Any]:
        """(n,) the class of each row, in the user's own values; float64 numbers where the model learnt numbers, and
        int64 ones of groups that it found without labels."""
        return self._values(self._batch(x))

    def decision_function(self, x: ArrayLike | Any) -> NDArray[Any]:
        """Margins: (n,) of the second class against the first, or (n, classes), the largest of which decides.

        Raises:
            NotSupported: the model predicts numbers.
        """
        if not self.labels:
            raise NotSupported(f"{self.model.name} predicts numbers and has no margins", hint="use predict")
        return self._margins(self._batch(x))

    def predict_proba(self, x: ArrayLike | Any) -> NDArray[Any]:
        """(n, classes) probabilities of each class, float64, rows adding to 1.

        Raises:
            NotSupported: the model has no probabilities.
        """
        return self._probable().probabilities(self.params.astype(np.float64), self._batch(x))

    def evaluate(self, x: ArrayLike | Any, y: ArrayLike | None = None) -> Mapping[str, float]:
        """Figures on these rows: ``loss``, and ``accuracy``, ``baseline_accuracy``, ``auc``, or ``rmse`` and ``r2``.

        Args:
            y: (n,) labels in the user's own values, or numbers; not looked at where the target is ``none``.

        Raises:
            DataError: no rows, other lengths, or a label that the model does not know.
        """
        batch = self._batch(x)
        if self.target == "none":
            return self._figures([batch])
        if y is None:
            raise DataError("y is missing", hint="give one label for each row")
        targets = self._targets(y)
        if len(targets) != batch.n:
            raise DataError(f"x has {batch.n} rows and y {len(targets)}", hint="give one label for each row")
        return self._figures([batch._replace(y=targets)])

    # --- rows in files, a block at a time

    def predict_file(self, source: str | os.PathLike[str], *, format: Reference | None = None) -> NDArray[Any]:
        """(n,) predictions for the rows of a file, a folder or a glob, in its order. It needs no labels.

        Args:
            format: how files are read; default: by the ending of their names.

        Raises:
            DataError: a file is missing or malformed (the line is named), or has other features than the model's.
        """
        blocks = [block.values for block in self.predict_blocks(source, format=format)]
        return np.concatenate(blocks) if blocks else self._values(self._no_rows())

    def predict_blocks(
        self, source: str | os.PathLike[str], *, format: Reference | None = None, probabilities: bool = False
    ) -> Iterator[Predictions]:
        """As :meth:`predict_file`, in blocks of bounded memory.

        Raises:
            NotSupported: the model has no probabilities; raised by the first step, before anything is read.
        """
        probable, params = self._probable() if probabilities else None, self.params.astype(np.float64)
        for batch, _ in self._blocks(source, format, labelled=False):
            yield Predictions(self._values(batch), probable.probabilities(params, batch) if probable else None)

    def evaluate_file(self, source: str | os.PathLike[str], *, format: Reference | None = None) -> Mapping[str, float]:
        """The figures of :meth:`evaluate` for the labelled rows of a file, a folder or a glob, and ``rows``.

        Rows need no labels where the target is ``none``.

        Raises:
            DataError: as :meth:`predict_file`; or there are no labels, or one that the model does not know.
        """
        if self.target == "none":
            return self._figures(batch for batch, _ in self._blocks(source, format, labelled=False))
        return self._figures(self._labelled(source, format))

    # --- what it has learnt

    @property
    def coef(self) -> NDArray[Any]:
        """Weights of a linear model, a view: (1, features), or (classes, features) for more than two classes.

        Raises:
            NotSupported: the model is not linear.
        """
        return self.params[self._weights()].reshape(self.features, -1).T

    @property
    def intercept(self) -> NDArray[Any]:
        """Biases of a linear model, (1,) or (classes,): a view, or zeros where it has none. Raises as :attr:`coef`."""
        biases = self.params[self._weights().stop :]
        return biases if biases.size else np.zeros(len(self.coef), self.params.dtype)

    @property
    def feature_names(self) -> list[str] | None:
        """The name of each feature that preprocessing makes; None where there is none."""
        if not self.preprocessing:
            return None
        from lambdaml_core.data.preprocess import Preprocessing

        return list(Preprocessing.from_json(self.preprocessing).names)

    # --- as files

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

    # --- inside

    def _built(self) -> Model:
        built: Model = self.model.build()
        return built

    def _probable(self) -> SupportsProbabilities:
        built = self._built()
        if not isinstance(built, SupportsProbabilities):
            raise NotSupported(
                f"{self.model.name} has no probabilities",
                hint="use decision_function, or predict" if self.labels else "use predict",
            )
        return built

    def _weights(self) -> slice:
        from lambdaml_core.models.linear import Linear

        built = self._built()
        if not isinstance(built, Linear):
            raise NotSupported(f"{self.model.name} is not linear and has no coefficients", hint="look at params")
        return built.penalised(Shape(self.features, len(self.labels)))

    def _values(self, batch: Batch) -> NDArray[Any]:
        margins = self._margins(batch)
        return decide(np.asarray(self.labels), margins) if self.labels else margins

    def _margins(self, batch: Batch) -> NDArray[Any]:
        """In float64, so that what is said of a row does not depend on the rows beside it."""
        return self._built().predict(self.params.astype(np.float64), batch)

    def _figures(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        built = self._built()
        rows = 0

        def counted() -> Iterator[Batch]:
            nonlocal rows
            for batch in batches:
                rows += batch.n
                yield batch

        totals = total_score(built, self.params, counted())
        if rows == 0:
            raise DataError("there are no rows to evaluate the model on", hint="give at least one")
        return {**built.metrics(totals), "rows": rows}

    def _batch(self, x: Any) -> Batch:
        from lambdaml_core.data.arrays import rows_batch  # a worker that writes a model predicts nothing

        batch = rows_batch(self._preprocessed(x) if self.preprocessing else x)
        features = int(batch.x.shape[1])
        if features != self.features:
            raise DataError(
                f"the data has {features} features and the model was trained on {self.features}",
                hint="give the columns of the training data",
            )
        return batch

    def _preprocessed(self, x: Any) -> Any:
        from lambdaml_core.data.raw import frame_rows

        if not (hasattr(x, "columns") or isinstance(x, Mapping)):
            raise DataError(
                f"the model takes raw columns by name, and not a {type(x).__name__} without names",
                hint="give a pandas frame, or a mapping of names to columns, before any scaling or encoding",
            )
        return frame_rows(x, self.preprocessing)

    def _blocks(
        self, source: str | os.PathLike[str], format: Reference | None, *, labelled: bool
    ) -> Iterator[tuple[Batch, Any]]:
        from lambdaml_core.data.raw import read_raw

        for block in read_raw(
            source,
            format=format,
            preprocessing=self.preprocessing or None,
            features=self.features,
            labelled=labelled,
        ):
            n = int(block.x.shape[0])
            yield Batch(block.x, np.zeros(n, np.float32), n), block.labels

    def _labelled(self, source: str | os.PathLike[str], format: Reference | None) -> Iterator[Batch]:
        for batch, labels in self._blocks(source, format, labelled=True):
            try:
                yield batch._replace(y=self._targets(labels))
            except DataError as e:
                raise DataError(f"{os.fspath(source)}: {e.message}", hint=e.hint) from e

    def _no_rows(self) -> Batch:
        return Batch(np.zeros((0, self.features), np.float32), np.zeros(0, np.float32), 0)

    def _targets(self, y: ArrayLike) -> NDArray[np.float32]:
        """What the model is held against: class numbers, or the numbers themselves."""
        if not self.labels:
            return _numbers(y)
        known = {label: number for number, label in enumerate(self.labels)}
        try:
            return np.array([known[label] for label in np.asarray(y).tolist()], np.float32)
        except (KeyError, TypeError) as e:
            raise DataError(f"the model has no class {e}", hint=f"its classes are {self.labels}") from e


def decide(labels: NDArray[Any], margins: NDArray[Any]) -> NDArray[Any]:
    """(n,) the label of each row by its margins, (n,) or (n, classes)."""
    classes = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
    chosen: NDArray[Any] = labels[classes]
    return chosen


def _numbers(y: ArrayLike) -> NDArray[np.float32]:
    try:
        numbers = np.asarray(y, np.float32)
    except (TypeError, ValueError) as e:
        raise DataError(f"y has labels that are no numbers: {e}", hint="the model predicts numbers") from e
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise DataError("y has more than one dimension, or NaN or infinite numbers", hint="give a number for each row")
    return numbers
