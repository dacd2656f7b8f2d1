"""What models are tried on: rows, and parameters at which the loss has a slope everywhere."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError, NotSupported
from lambdaml_core.models.base import Model, Ready
from lambdaml_core.specs import Target
from lambdaml_core.testing.base import Laws

Array = NDArray[Any]
ROUNDING = 1e-5
"""How far float32 sums may be from each other, as a share of what was added."""


class RowsInMemory:
    """All rows of one rank; implements :class:`lambdaml_core.data.base.Data`."""

    def __init__(self, batch: Batch, classes: int, steps_per_epoch: int = 1) -> None:
        self._batch, self.classes, self.steps_per_epoch = batch, classes, steps_per_epoch
        self.rows, self.features = batch.x.shape

    def batch(self, step: int) -> Batch:
        t, steps = step % self.steps_per_epoch, self.steps_per_epoch
        return part(self._batch, t * self.rows // steps, (t + 1) * self.rows // steps)

    def blocks(self) -> Iterator[Batch]:
        yield self._batch


class Trial(NamedTuple):
    """A model, some rows, and parameters that are not those it starts with.

    Attributes:
        classes: that the rows are labelled with; 0 = with numbers.
    """

    model: Model
    classes: int
    batch: Batch
    params: Array

    def __str__(self) -> str:
        labels = f"{self.classes} classes" if self.classes else "numbers"
        return f"{self.batch.n} rows labelled with {labels}"

    def of(self, batch: Batch, ready: Ready | None = None) -> tuple[float, Array]:
        """Loss and gradient of other rows."""
        out = np.full_like(self.params, np.nan)
        return self.model.loss_and_gradient(self.params, batch, out, ready), out


class ModelUnderTest(Laws):
    """What all laws of models share. Override the fixture ``model``, and what the rows are like if it matters.

    Attributes:
        target: what the model learns: the ``class`` of a row, or a ``number``; ``none`` where it looks at no labels.
        features: columns of the rows.
        classes: how many classes to try; those that ``init`` refuses are left out.
    """

    target: ClassVar[Target] = "class"
    features: ClassVar[int] = 6
    classes: ClassVar[tuple[int, ...]] = (2, 3)

    @pytest.fixture
    def model(self) -> Model:
        """The model, built."""
        raise NotImplementedError("override the fixture `model`")

    def trials(self, model: Model, rows: int, *, features: int | None = None, seed: int = 0) -> list[Trial]:
        """A trial for each kind of labels that the model learns from: dense rows, without weights.

        ``features`` are others than the usual: a model may refuse them, and there are no trials then.
        """
        found, refused = [], None
        labels = {"class": self.classes, "number": (0,), "none": (0, 1, *self.classes)}
        for classes in labels[self.target]:
            batch = make_rows(rows, features or self.features, classes, seed=seed)
            try:
                start = model.init(RowsInMemory(batch, classes), np.random.default_rng(seed))
            except DataError as e:
                refused = e
                continue
            params = np.array(start) + (np.random.default_rng(seed + 1).standard_normal(start.size) / 2)
            found.append(Trial(model, classes, batch, params.astype(start.dtype)))
        if not found and features is None:
            pytest.fail(f"init refuses all rows labelled as a {self.target}: {refused}")
        return found


def make_rows(n: int, features: int, classes: int, *, seed: int = 0) -> Batch:
    """Dense rows of standard normal numbers, and labels that have nothing to do with them; 0 classes = numbers."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features), np.float32)
    y = (np.arange(n) % classes if classes else 3 * rng.standard_normal(n)).astype(np.float32)
    return Batch(x, rng.permutation(y), n)


def part(batch: Batch, lo: int, hi: int) -> Batch:
    """Rows lo to hi."""
    weights = None if batch.weights is None else batch.weights[lo:hi]
    return Batch(batch.x[lo:hi], batch.y[lo:hi], hi - lo, weights)


def taken(batch: Batch, which: Array) -> Batch:
    """The rows of these numbers."""
    return Batch(batch.x[which], batch.y[which], len(which))


def thinned(batch: Batch) -> tuple[Batch, Batch]:
    """The same rows with half of their numbers gone, and one row and one column wholly: dense, and as a csr_matrix."""
    from scipy.sparse import csr_matrix

    x = batch.x * (np.random.default_rng(7).random(batch.x.shape) < 0.5)
    x[batch.n // 3] = 0
    x[:, 1:2] = 0
    return batch._replace(x=x), batch._replace(x=csr_matrix(x))


def or_skip(trial: Trial, sparse: Batch) -> None:
    """Skip where the model says that sparse rows are not for it."""
    try:
        trial.of(sparse)
    except NotSupported as e:
        pytest.skip(f"sparse rows not declared: {e}")


def scale_of(trial: Trial, batch: Batch) -> tuple[float, Array]:
    """The sizes of all rows' losses and gradients added, which rounding is measured by."""
    rows = [trial.of(part(batch, i, i + 1)) for i in range(batch.n)]
    losses, gradients = sum(abs(loss) for loss, _ in rows), np.zeros(trial.params.size)
    for _, gradient in rows:
        gradients += np.abs(gradient)
    return losses, gradients


def assert_close(found: tuple[float, Array], right: tuple[float, Array], scale: tuple[float, Array], why: str) -> None:
    """Losses and gradients that are equal but for rounding."""
    assert abs(found[0] - right[0]) <= ROUNDING * scale[0] + 1e-12, f"{why}: the loss is {found[0]}, not {right[0]}"
    wrong = np.abs(found[1].astype(np.float64) - right[1])
    allowed = ROUNDING * (scale[1] + scale[1].max(initial=0) / 10) + 1e-12
    at = int((wrong - allowed).argmax())
    assert (wrong <= allowed).all(), f"{why}: element {at} of the gradient is {found[1][at]}, not {right[1][at]}"


def classes_of(margins: Array) -> Array:
    """What rows are taken for, by the margins that ``predict`` gives for classes."""
    taken_for: Array = (margins > 0).astype(np.intp) if margins.ndim == 1 else margins.argmax(axis=1)
    return taken_for


def bytes_of(batch: Batch, *arrays: Array) -> list[bytes]:
    """All that a model was given."""
    x = batch.x
    parts = [x] if isinstance(x, np.ndarray) else [x.data, x.indices, x.indptr]
    weights = [] if batch.weights is None else [batch.weights]
    return [array.tobytes() for array in (*parts, batch.y, *weights, *arrays)]


def untouched(model: Model) -> Model:
    """A copy of a model as it is now, which sees nothing of what the model is asked from here on."""
    try:
        return copy.deepcopy(model)
    except Exception:  # noqa: BLE001 - whatever a model holds that cannot be copied
        return model


@contextlib.contextmanager
def other_random_state() -> Iterator[None]:
    """The shared generators of Python and numpy in another state: nothing may depend on them."""
    states = random.getstate(), np.random.get_state()
    random.seed(1)
    np.random.seed(1)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
