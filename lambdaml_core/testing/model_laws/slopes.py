"""Laws of the gradient: it is the slope of the loss that is returned beside it, and leads to what is to be learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import Model
from lambdaml_core.testing.model_laws.trials import Array, ModelUnderTest, Trial, classes_of

_STEPS_64 = (1e-4, 1e-5, 1e-6)
_STEPS_32 = (3e-2, 1e-2, 3e-3, 1e-3)
_MOST_ELEMENTS = 40
_LESSON_STEPS = 300


class SlopeLaws(ModelUnderTest):
    """Laws of ``loss_and_gradient`` at one point."""

    def test_the_gradient_is_the_slope_of_the_loss(self, model: Model) -> None:
        """What is written into ``out`` is the gradient of the loss that is returned: for every parameter, and along
        random directions, at random points, with weights of rows and without.

        An optimizer goes where the gradient points and judges by the loss; where these are of two functions, as in an
        SVM that follows the gradient of a cross-entropy, it ends nowhere in particular. Slopes are differences of the
        loss on both sides of a point, in float64 where the model computes in what it is given. Fix the derivation, or
        what is missing in ``out``, such as the bias. Where a loss has kinks, any slope between both sides will do.
        """
        for seed in range(3):
            for trial in self.trials(model, 24, seed=seed):
                weights = np.random.default_rng(seed).uniform(0, 3, 24).astype(np.float32)
                for batch in (trial.batch, trial.batch._replace(weights=weights)):
                    _check_slopes(trial, batch, seed)

    def test_a_single_row_or_feature_is_enough(self, model: Model) -> None:
        """The gradient is right for a batch of one row, and for rows of one feature.

        Late batches are small, and shards are uneven. Fix shapes that numpy squeezes or broadcasts: of (1,) and (1, 1).
        """
        for trial in (*self.trials(model, 1), *self.trials(model, 9, features=1)):
            _check_slopes(trial, trial.batch, 0)

    def test_following_the_gradient_teaches_every_label(self, model: Model) -> None:
        """Steps against the gradient on rows of one class make a model take them for that class, each class in turn,
        or bring what it predicts nearer to one number, then to another. Without labels, they lower the loss.

        Fix what a label means: a hinge loss that is fed 0 and 1 in place of -1 and +1 learns nothing from class 0. And
        fix ``predict``, if what it says is not what the loss rewards.
        """
        for trial in self.trials(model, 12):
            rng = np.random.default_rng(3)
            x = (1 + rng.random((12, self.features), np.float32)) / np.float32(self.features)
            params = trial.params.copy()
            if self.target == "none":
                batch = Batch(x, np.zeros(12, np.float32), 12)
                learnt = trial._replace(params=_descended(trial, batch))
                assert learnt.of(batch)[0] < trial.of(batch)[0], f"{trial}: the loss does not fall"
                continue
            for label in (*range(trial.classes), 0) if trial.classes else (5, -3):
                batch = Batch(x, np.full(12, label, np.float32), 12)
                before, params = params, _descended(trial._replace(params=params), batch)
                if trial.classes:
                    found = classes_of(model.predict(params, batch))
                    assert (found == label).all(), f"{trial}: of 12 rows of class {label}, {found} is learnt"
                else:
                    first, last = (np.abs(model.predict(p, batch) - label).mean() for p in (before, params))
                    assert last < first / 2, f"{trial}: from {first:.3g} away, only {last:.3g} of all {label}"


def _check_slopes(trial: Trial, batch: Batch, seed: int) -> None:
    exact = _in_float64(trial, batch)
    start = exact if exact is not None else trial.params
    steps, share = (_STEPS_64, 1e-5) if exact is not None else (_STEPS_32, 2e-2)

    def loss_at(params: Array) -> float:
        return trial.model.loss_and_gradient(params, batch, np.empty_like(params))

    out = np.full_like(start, np.nan)
    loss = trial.model.loss_and_gradient(start, batch, out)
    gradient = out.astype(np.float64)
    assert np.isfinite(gradient).all(), f"{trial}: the gradient has {np.isnan(gradient).sum()} elements not written"
    usual = float(np.linalg.norm(gradient)) / np.sqrt(gradient.size)
    for name, direction in _directions(start.size, seed):
        told = float(gradient @ direction)
        noise = 4 * np.finfo(start.dtype).eps * (abs(loss) + batch.n)
        found = [_slope(loss_at, start, direction, step) for step in steps]
        fits = [
            abs(slope - told) <= share * max(abs(told), usual) + noise / step
            for slope, step in zip(found, steps, strict=True)
        ]
        assert any(fits), f"{trial}: along {name} the loss rises by {found[-2]:.6g}, and the gradient says {told:.6g}"


def _in_float64(trial: Trial, batch: Batch) -> Array | None:
    """Parameters in float64, if the model computes in it: if digits that float32 has not change the loss."""
    exact = trial.params.astype(np.float64) + 1e-9 * np.random.default_rng(0).standard_normal(trial.params.size)
    rounded = exact.astype(np.float32).astype(np.float64)
    try:
        a, b = (trial.model.loss_and_gradient(p, batch, np.empty_like(p)) for p in (exact, rounded))
    except Exception:  # noqa: BLE001 - no model needs to take other parameters than its own
        return None
    return exact if a != b else None


def _directions(size: int, seed: int) -> Iterator[tuple[str, Array]]:
    rng = np.random.default_rng(seed)
    for element in rng.permutation(size)[:_MOST_ELEMENTS]:
        direction = np.zeros(size)
        direction[element] = 1
        yield f"parameter {element}", direction
    for i in range(3):
        direction = rng.standard_normal(size)
        yield f"random direction {i}", direction / np.linalg.norm(direction)


def _slope(loss_at: Callable[[Array], float], start: Array, direction: Array, step: float) -> float:
    """The central difference, over the distance that is left after rounding."""
    ahead, behind = ((start + sign * step * direction).astype(start.dtype) for sign in (1, -1))
    distance = float((ahead.astype(np.float64) - behind) @ direction) / float(direction @ direction)
    return (loss_at(ahead) - loss_at(behind)) / distance


def _descended(trial: Trial, batch: Batch) -> Array:
    """Parameters after steps of steepest descent, each halved until it lowers the loss (Armijo's rule)."""
    params, step = trial.params, 1.0 / batch.n
    loss, gradient = trial.of(batch)
    for _ in range(_LESSON_STEPS):
        steepness = float(gradient.astype(np.float64) @ gradient)
        while step * steepness > 1e-7:
            tried = trial._replace(params=(params - step * gradient).astype(params.dtype))
            new_loss, new_gradient = tried.of(batch)
            if new_loss <= loss - step * steepness / 4:
                params, loss, gradient = tried.params, new_loss, new_gradient
                step *= 2
                break
            step /= 2
        else:
            break
    return params
