"""Estimators in the style of scikit-learn: ``fit``, ``predict``, ``score``, and whatever is built on these.

They train through :func:`lambdaml_core.train`, so every setting of a job is a parameter, any storage can carry the
exchange and any provider can run the workers. Needs scikit-learn 1.6 or newer, the extra ``sklearn``.

Features should be of about one size, as for every method of gradients: put a ``StandardScaler`` before.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.errors import DataError, NotSupported, OptionError
from lambdaml_core.run.api import train
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.run.saved import SavedModel, decide
from lambdaml_core.storage import open_storage

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as e:
    raise NotSupported(
        f"lambdaml_core.estimators needs scikit-learn 1.6, which cannot be imported: {e}",
        hint="pip install 'scikit-learn>=1.6'",
    ) from e

__all__ = ["SVM", "LeastSquares", "LogisticRegression"]

_EPOCHS, _STEPS = 10, 500  # at least
_LEAST = 1e-30  # rows of zeros are as flat as that
_SAMPLE = 20_000  # rows that the step size is chosen by
_POWER_STEPS = 20  # of the power iteration: it comes within a few per cent, and the step size has that much to spare


class UnfitData(DataError, ValueError):
    """Rows that cannot be learnt from; scikit-learn expects a ValueError."""


@dataclass(kw_only=True, eq=False, repr=False)
class _Linear(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What all of them have.

    Args:
        epochs: passes over the rows; None: 10, or as many as make 500 steps where the rows are few.
        batch_size: rows of a mini-batch, over all workers together.
        learning_rate: step size at the first step; None: as large as the rows allow, by their curvature.
        schedule: how it falls: constant, inverse, inverse_sqrt, step or cosine.
        momentum, nesterov: share of the last step that is kept, and whether to look ahead along it.
        l1, l2: weights of the penalties ||w||_1 and ||w||^2 / 2 beside the mean loss; the intercept has none.
        fit_intercept: whether there is one.
        optimizer: ``ga_sgd`` or ``ma_sgd``, or a table with its further options, such as
            ``{"name": "ma_sgd", "local_epochs": 2}``.
        stop: when to stop before all epochs are done, the table ``[stop]`` of a job.
        workers, aggregators, provider, store, channel: where it runs. The default is a thread in this process, and a
            store that is removed once the model is there.
        init_from: a saved model to start from, or its directory or URL.
        random_state: seed of the job, and so of the order of rows; None: 0. A ``RandomState`` draws one.

    Attributes:
        coef_, intercept_: (1, features) and (1,), or (classes, features) and (classes,), or, of a regressor,
            (features,) and a number; as in scikit-learn.
        n_features_in_, feature_names_in_: of the rows.
        n_iter_: rounds done.
        run_: the record of the run: times, bytes, requests.
        model_: the :class:`SavedModel`, to save, or to predict from files with.
    """

    epochs: int | None = None
    batch_size: int = 1000
    learning_rate: float | None = None
    schedule: str = "cosine"
    momentum: float = 0.9
    nesterov: bool = False
    l1: float = 0.0
    l2: float = 1e-4
    fit_intercept: bool = True
    optimizer: Any = "ga_sgd"
    stop: Any = None
    workers: int = 1
    aggregators: int | str = 1
    provider: Any = "inline"
    store: str | None = None
    channel: str | None = None
    init_from: SavedModel | str | None = None
    random_state: Any = 0

    _model: ClassVar[str]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _train(
        self, x: Any, y: NDArray[Any], *, model: Mapping[str, Any], curvatures: NDArray[Any], **keys: Any
    ) -> None:
        """Fit to rows that have been checked.

        Args:
            model: options of the model.
            curvatures: (n,) most that the loss of each row bends over its margin, for the step size.
            keys: further keys of the job.
        """
        size = int(self.batch_size)
        if size < 1:
            raise OptionError(f"batch_size must be at least 1, not {size}", hint="many rows, such as 1000, are quicker")
        epochs = max(_EPOCHS, math.ceil(_STEPS / math.ceil(x.shape[0] / size))) if self.epochs is None else self.epochs
        keys |= {
            "data": {"validation": 0.0},
            "model": {"name": self._model, "bias": self.fit_intercept, **model},
            "optimizer": self._steps(x, curvatures),
            "provider": self.provider,
            "seed": self._seed(),
            "workers": self.workers,
            "batch_size": self.batch_size,
            "epochs": epochs,
            "aggregators": self.aggregators,
            "channel": self.channel,
            "stop": self.stop,
            "init_from": self.init_from,
        }
        with self._run_store() as store:
            run = train(x, y, store=store, **keys)
        self.run_: RunRecord = run.record
        self.model_: SavedModel = run.model
        self.coef_: NDArray[Any] = run.model.coef
        self.intercept_: Any = run.model.intercept
        self.n_iter_ = run.record["rounds"]

    @contextlib.contextmanager
    def _run_store(self) -> Iterator[str]:
        """The store of the user, or one that nothing is left of."""
        if self.store is not None:
            yield self.store
        elif self.provider == "inline":  # threads find it in memory, which saves much of a short fit
            store = f"memory://{secrets.token_hex(8)}"
            try:
                yield store
            finally:
                memory = open_storage(store)
                memory.delete(memory.list(""))
        else:
            with tempfile.TemporaryDirectory(prefix="lambdaml-") as folder:
                yield folder

    def _seed(self) -> int:
        if isinstance(self.random_state, numbers.Integral | None):
            return int(self.random_state or 0)
        return int(check_random_state(self.random_state).randint(2**31))

    def _steps(self, x: Any, curvatures: NDArray[Any]) -> dict[str, Any]:
        """The optimizer with its options."""
        options = {"name": self.optimizer} if isinstance(self.optimizer, str) else dict(self.optimizer)
        rate = self.learning_rate
        return {
            "learning_rate": 1 / max(self._smoothness(x, curvatures) + self.l2, _LEAST) if rate is None else rate,
            "schedule": self.schedule,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "l1": self.l1,
            "l2": self.l2,
        } | options

    def _smoothness(self, x: Any, curvatures: NDArray[Any]) -> float:
        """How fast gradients of mini-batches can change, of which 1 / it is a step size that converges.

        It is the expected smoothness of Gower et al., "SGD: General Analysis and Improved Rates" (ICML 2019),
        proposition 3.8: between that of all rows, the largest eigenvalue of their second moments, for large batches,
        and that of the longest row for small ones.
        """
        n, bias = x.shape[0], float(self.fit_intercept)
        b = min(self.batch_size, n)
        sample = slice(None, None, math.ceil(n / _SAMPLE))
        squares = x.multiply(x).sum(axis=1) if hasattr(x, "multiply") else np.einsum("ij,ij->i", x, x)
        share = (n - b) / (b * (n - 1)) if b < n else 0.0
        of_all = _largest_eigenvalue(x[sample], curvatures[sample], bias)
        longest = float(((np.asarray(squares).ravel() + bias) * curvatures).max())
        smoothness = (1 - share) * of_all + share * longest
        if not math.isfinite(smoothness):
            raise UnfitData("X has numbers whose squares are too large for float32", hint="scale the features first")
        return smoothness

    def _checked(self, x: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, x, accept_sparse="csr", dtype=np.float32, reset=False)


def _largest_eigenvalue(x: Any, weights: NDArray[Any], bias: float) -> float:
    """Of X'WX / n, with the weights in the diagonal of W, and a column of ones in X if there is a bias.

    By power iteration, so from below.
    """
    vector = np.random.default_rng(0).random(x.shape[1] + 1, np.float32)  # as the rows: nothing large is converted
    value = 0.0
    for _ in range(_POWER_STEPS):
        with np.errstate(over="ignore", invalid="ignore"):
            margins = weights * (x @ vector[:-1] + np.float32(bias) * vector[-1])
            vector = np.append(x.T @ margins, np.float32(bias) * margins.sum()) / np.float32(x.shape[0])
            value = float(np.linalg.norm(vector))
        if value == 0 or not math.isfinite(value):
            break
        vector /= np.float32(value)
    return value


@dataclass(kw_only=True, eq=False, repr=False)
class _Classifier(ClassifierMixin, _Linear):  # type: ignore[misc]
    """What tells classes apart; see :class:`_Linear` for all but these.

    Args:
        class_weight: what a row of each class counts: a mapping of labels, or ``balanced``.

    Attributes:
        classes_: the labels in order.
    """

    class_weight: Any = None

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows X (n, features), dense or sparse, and labels y (n,) of any kind.

        Raises:
            ValueError: as scikit-learn; or all rows have one label.
            UsageError, RunError: as :func:`lambdaml_core.train`.
        """
        x, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UnfitData(f"all rows are of one class, {self.classes_[0]!r}", hint="give rows of two or more")
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        keys: dict[str, Any] = {}
        if self.class_weight is not None:
            keys["class_weight"] = {label: float(w) for label, w in zip(self.classes_.tolist(), weights, strict=True)}
        curvatures = (self._curvature() * weights).astype(np.float32)[numbers]
        self._train(x, y, model=self._model_options(), curvatures=curvatures, **keys)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Margins: (n,) of the second class against the first, or (n, classes)."""
        x = self._checked(X)
        return self.model_.decision_function(x)

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) the label of each row."""
        margins = self.decision_function(X)
        return decide(self.classes_, margins)

    def _model_options(self) -> dict[str, Any]:
        return {}

    def _curvature(self) -> float:
        raise NotImplementedError


@dataclass(kw_only=True, eq=False, repr=False)
class LogisticRegression(_Classifier):
    """Logistic regression: sigmoid for two classes, softmax for more; see :class:`_Linear` for its parameters."""

    _model = "logistic_regression"

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """(n, classes) probabilities of each class, rows adding to 1."""
        x = self._checked(X)
        return self.model_.predict_proba(x)

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Their logarithms."""
        logarithms: NDArray[Any] = np.log(self.predict_proba(X))
        return logarithms

    def _curvature(self) -> float:
        return 0.25 if len(self.classes_) == 2 else 0.5  # of the sigmoid, and of softmax (Boehning, 1992)


@dataclass(kw_only=True, eq=False, repr=False)
class SVM(_Classifier):
    """Linear support vector machine, one class against the rest for more than two; see :class:`_Linear`.

    Args:
        loss: ``hinge`` or ``squared_hinge``.
    """

    loss: str = "hinge"

    _model = "svm"

    def _model_options(self) -> dict[str, Any]:
        return {"loss": self.loss}

    def _curvature(self) -> float:
        return 1.0 if self.loss == "hinge" else 2.0  # a hinge bends at one point only: as that of a square half as high


@dataclass(kw_only=True, eq=False, repr=False)
class LeastSquares(RegressorMixin, _Linear):  # type: ignore[misc]
    """Linear regression by least squares, with penalties if they are given; see :class:`_Linear`."""

    _model = "least_squares"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows X (n, features), dense or sparse, and numbers y (n,); raises as the classifiers."""
        x, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32, y_numeric=True)
        self._train(x, y, model={}, curvatures=np.ones(len(y), np.float32))
        self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) float64."""
        x = self._checked(X)
        return self.model_.predict(x)
