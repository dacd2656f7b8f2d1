"""Laws of what a model starts with, predicts, and is judged by."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from lambdaml_core.data.base import Batch
from lambdaml_core.errors import DataError
from lambdaml_core.models.base import Model, SupportsProbabilities, total_score
from lambdaml_core.specs import Target
from lambdaml_core.testing.model_laws.trials import (
    Array,
    ModelUnderTest,
    RowsInMemory,
    Trial,
    classes_of,
    make_rows,
    or_skip,
    other_random_state,
    part,
    thinned,
    untouched,
)

_ROWS = 60
_LARGE = 1e4
_COARSE = 5e-3
"""By how much an AUC may be off that is counted in bins."""


class StartLaws(ModelUnderTest):
    """Laws of ``init`` and ``penalised``."""

    def test_parameters_are_one_flat_array(self, model: Model) -> None:
        """``init`` gives one flat, contiguous array of finite floats, of which ``penalised`` is a slice.

        It is a message, a checkpoint and a saved model as it lies in memory. Fix ``init``: ``np.concatenate`` of all
        that is trained; and ``penalised``: from where to where the weights lie, the biases left out.
        """
        for trial in self.trials(model, 9):
            rows = RowsInMemory(trial.batch, trial.classes)
            params, penalised = model.init(rows, np.random.default_rng(0)), model.penalised(rows)
            assert isinstance(params, np.ndarray)
            assert params.ndim == 1, f"parameters have {params.ndim} dimensions"
            assert params.size, "there are no parameters"
            assert params.dtype.kind == "f", f"parameters are of {params.dtype}"
            assert params.flags.c_contiguous and params.flags.writeable  # noqa: PT018
            assert np.isfinite(params).all(), "parameters are not finite"
            assert isinstance(penalised, slice)
            assert penalised.step in (None, 1)
            lo, hi = penalised.start or 0, params.size if penalised.stop is None else penalised.stop
            assert 0 <= lo <= hi <= params.size, f"{penalised} of {params.size} parameters"

    def test_the_start_follows_from_rng_and_data_alone(self, model: Model) -> None:
        """Equal rng and data give equal parameters, whatever was computed before and whatever the random state.

        A run that starts again must start from the same place. Fix draws from anything but the ``rng`` that is given.
        """
        for trial in self.trials(model, 9):
            rows, unused = RowsInMemory(trial.batch, trial.classes), untouched(model)
            first = np.array(model.init(rows, np.random.default_rng(7)))
            trial.of(trial.batch)
            for one in (model, unused):
                with other_random_state():
                    again = np.array(one.init(rows, np.random.default_rng(7)))
                assert (again.dtype, again.tobytes()) == (first.dtype, first.tobytes())

    def test_labels_that_are_not_for_it_are_refused(self, model: Model) -> None:
        """``init`` raises ``DataError`` for numbers in place of classes, or classes in place of numbers. A model that
        looks at no labels takes all, and other labels change nothing.

        Else a run costs money and ends with a model of nothing. Fix ``init``: look at ``data.classes``, 0 = numbers.
        """
        if self.target == "none":
            first, *others = map(_all_but_labels, self.trials(model, 9))
            assert all(other == first for other in others), "rows with other labels have other results"
            return
        for classes in (0,) if self.target == "class" else (2, 3):
            rows = RowsInMemory(make_rows(9, self.features, classes), classes)
            with pytest.raises(DataError):
                model.init(rows, np.random.default_rng(0))


class FigureLaws(ModelUnderTest):
    """Laws of ``predict``, ``score`` and ``metrics``."""

    def test_predictions_have_the_promised_shape(self, model: Model) -> None:
        """One float a row for numbers; for two classes one, or two; for more, one for each class. One integer a row for
        groups that are found without labels.

        What reads predictions goes by their shape. Fix ``predict``; for one row, too.
        """
        for trial in self.trials(model, 9):
            for n in (9, 1):
                found = model.predict(trial.params, part(trial.batch, 0, n))
                shapes = [(n,)] * (trial.classes < 3) + [(n, trial.classes)] * (trial.classes > 1)
                if self.target == "none":
                    shapes = [(n,)]
                assert found.shape in shapes, f"{trial}: predictions of shape {found.shape}, not {shapes}"
                kind = "i" if self.target == "none" else "f"
                assert found.dtype.kind == kind, f"predictions are of {found.dtype}"

    def test_predictions_do_not_depend_on_the_batch(self, model: Model) -> None:
        """What a row is taken for is the same in any batch, to rounding.

        Fix whatever is computed over the batch: a mean, a deviation, a softmax over the wrong axis.
        """
        for trial in self.trials(model, _ROWS):
            whole = model.predict(trial.params, trial.batch)
            ones = [model.predict(trial.params, part(trial.batch, i, i + 1)) for i in range(_ROWS)]
            np.testing.assert_allclose(np.concatenate(ones), whole, rtol=1e-4, atol=1e-5)

    def test_totals_add_over_any_split_of_the_rows(self, model: Model) -> None:
        """Figures of the totals of any parts, added, are those of all rows together.

        Each rank scores its own rows. A mean over batches would count the rows of a small one more. Fix ``score``: sums
        and counts; ``metrics`` divides.
        """
        known = [(t, dict(model.metrics(model.score(t.params, t.batch)))) for t in self.trials(model, _ROWS)]

        @settings(deadline=None)
        @given(cuts=st.lists(st.integers(0, _ROWS), max_size=5))
        @example(cuts=[7])
        def adds(cuts: list[int]) -> None:
            for trial, right in known:
                parts = [part(trial.batch, lo, hi) for lo, hi in pairwise([0, *sorted(cuts), _ROWS])]
                assert dict(model.metrics(total_score(model, trial.params, parts))) == pytest.approx(right, rel=1e-5)

        adds()

    def test_figures_are_those_of_loss_and_predictions(self, model: Model) -> None:
        """``loss`` is the mean of the loss that is trained, ``accuracy``, ``auc``, ``rmse`` and ``r2`` are those of
        what ``predict`` says, ``baseline_accuracy`` is the share of the commonest class; weights do not count.

        Fix the figure that is named. The AUC may be counted in bins: it is compared to 0.005.
        """
        for trial in self.trials(model, _ROWS):
            skewed = taken_unevenly(trial)
            for batch in (skewed, skewed._replace(weights=np.linspace(0, 5, skewed.n, dtype=np.float32))):
                found = model.metrics(model.score(trial.params, batch))
                for name, right in _figures(trial, skewed, self.target).items():
                    assert name in found, f"{trial}: there is no figure {name}"
                    allowed = _COARSE if name == "auc" else 1e-4 * max(1.0, abs(right))
                    assert abs(found[name] - right) <= allowed, f"{trial}: {name} is {found[name]}, not {right}"

    def test_figures_without_meaning_are_nan(self, model: Model) -> None:
        """Of no rows all figures are NaN, as is the AUC of one class and the r2 of numbers that are all the same.

        A 0 would be taken for a result, and a division by zero ends a run after its training. Fix ``metrics``.
        """
        for trial in self.trials(model, _ROWS):
            some = model.metrics(model.score(trial.params, trial.batch))
            none = model.metrics(model.score(trial.params, part(trial.batch, 0, 0)))
            assert none.keys() == some.keys(), f"figures of no rows are {sorted(none)}, else {sorted(some)}"
            assert all(math.isnan(value) for value in none.values()), f"figures of no rows: {dict(none)}"
            alike = trial.batch._replace(y=np.ones(_ROWS, np.float32))
            found = model.metrics(model.score(trial.params, alike))
            for name in {0: ["r2"], 2: ["auc"]}.get(trial.classes, []) if self.target != "none" else []:
                assert math.isnan(found[name]), f"of rows that are all labelled 1, {name} is {found[name]}"

    def test_large_numbers_do_not_overflow(self, model: Model) -> None:
        """Rows of some 10,000 have a finite loss, gradient and finite figures, and no warning is given.

        Users forget to scale. Fix ``exp`` of large numbers and ``log`` of 0: take the largest margin from all first.
        """
        for trial in self.trials(model, _ROWS):
            for sign in (1, -1):
                batch = trial.batch._replace(x=trial.batch.x * np.float32(sign * _LARGE))
                loss, gradient = trial.of(batch)
                assert math.isfinite(loss), f"the loss is {loss}"
                assert np.isfinite(gradient).all(), "the gradient is not finite"
                figures = model.metrics(model.score(trial.params, batch))
                assert all(map(math.isfinite, figures.values())), f"figures: {dict(figures)}"
                if isinstance(model, SupportsProbabilities):
                    assert np.isfinite(model.probabilities(trial.params, batch)).all(), "probabilities are not finite"

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_parameters_that_have_diverged_show_in_the_loss(self, model: Model) -> None:
        """Where parameters are NaN the loss is not finite, in training and among the figures, and nothing is raised.

        By the loss a run knows that it has diverged, and says so. Fix comparisons that NaN passes: Python's ``max``.
        """
        for trial in self.trials(model, 9):
            lost = trial._replace(params=np.full_like(trial.params, np.nan))
            assert not math.isfinite(lost.of(trial.batch)[0]), "the loss of parameters that are NaN is finite"
            figures = model.metrics(model.score(lost.params, trial.batch))
            assert not math.isfinite(figures["loss"]), f"among the figures the loss is {figures['loss']}"

    def test_probabilities_add_to_one_and_agree_with_predict(self, model: Model) -> None:
        """``probabilities`` are (n, classes) float64 in [0, 1], add to 1, and the largest is of the class predicted.

        Fix the order of the columns, and sums in float32.
        """
        if not isinstance(model, SupportsProbabilities):
            pytest.skip("SupportsProbabilities not implemented")
        for trial in self.trials(model, _ROWS):
            for n in (_ROWS, 1, 0):
                batch = part(trial.batch, 0, n)
                found = model.probabilities(trial.params, batch)
                assert found.shape == (n, trial.classes), f"probabilities of shape {found.shape}"
                assert found.dtype == np.float64, f"probabilities of {found.dtype}"
                assert ((found >= 0) & (found <= 1)).all()
                np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)
                right = classes_of(model.predict(trial.params, batch))
                assert (found.argmax(axis=1) == right).all(), f"{trial}: the largest is of another class"

    def test_sparse_rows_are_scored_alike(self, model: Model) -> None:
        """Figures and probabilities of sparse rows are those of the same rows kept dense.

        Fix ``score``, or what else takes ``batch.x`` for an ndarray.
        """
        for trial in self.trials(model, _ROWS):
            dense, sparse = thinned(trial.batch)
            or_skip(trial, sparse)
            right, found = (dict(model.metrics(model.score(trial.params, batch))) for batch in (dense, sparse))
            assert found == pytest.approx(right, rel=1e-4)
            if isinstance(model, SupportsProbabilities):
                a, b = (model.probabilities(trial.params, batch) for batch in (dense, sparse))
                np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def taken_unevenly(trial: Trial) -> Batch:
    """More rows of one class than of others, so that shares differ."""
    y, n = trial.batch.y, trial.batch.n
    keep = (y != 0) | (np.arange(n) % 3 == 0) if trial.classes else np.ones(n, bool)
    return Batch(trial.batch.x[keep], y[keep], int(keep.sum()))


def _all_but_labels(trial: Trial) -> tuple[float, bytes, bytes]:
    """What a model that looks at no labels makes of the rows."""
    loss, gradient = trial.of(trial.batch)
    return loss, gradient.tobytes(), trial.model.predict(trial.params, trial.batch).tobytes()


def _figures(trial: Trial, batch: Batch, target: Target) -> dict[str, float]:
    """What a model's figures have to be."""
    found, y = trial.model.predict(trial.params, batch).astype(np.float64), batch.y.astype(np.float64)
    loss = trial.of(batch)[0] / batch.n
    if target == "none":
        return {"loss": loss}
    if not trial.classes:
        squares = float(((found - y) ** 2).mean())
        return {"loss": loss, "rmse": math.sqrt(squares), "r2": 1 - squares / float(y.var())}
    right = {
        "loss": loss,
        "accuracy": float((classes_of(found) == y).mean()),
        "baseline_accuracy": float(np.bincount(y.astype(np.intp)).max() / batch.n),
    }
    return right | (
        {"auc": _auc(found if found.ndim == 1 else found[:, 1] - found[:, 0], y)} if trial.classes == 2 else {}
    )


def _auc(margins: Array, y: Array) -> float:
    """The Mann-Whitney statistic: how many pairs of rows of both classes are in order, ties counted as half."""
    positives, negatives = float((y == 1).sum()), float((y == 0).sum())
    ranks = float(rankdata(margins)[y == 1].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
