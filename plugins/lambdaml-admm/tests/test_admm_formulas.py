"""Every round is that of Boyd et al. 2011, written down here once more, with exact solutions of the local problems."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from admm_help import Array, losses, problem, ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from lambdaml_admm.consensus import Residuals, Sums, proximal, residuals
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.testing.optimizer import Rows


class Round(NamedTuple):
    z: Array
    w: Array  # (n, p)
    u: Array  # (n, p)
    primal: float
    dual: float
    rho: float


def exact(model: str, x: Array, y: Array, near: Array, rho: float, total: int) -> Array:
    """argmin of the rows' losses / total + (rho/2) ||w - near||^2, by Newton's method; x has a column of ones."""

    def value(w: Array) -> float:
        return float(losses(model, x @ w, y).sum() / total + rho / 2 * ((w - near) ** 2).sum())

    w = near.copy()
    for _ in range(50):
        margins = x @ w
        if model == "logistic":
            probability = expit(margins)
            slopes, curvature = probability - y, probability * (1 - probability)
        else:
            slopes, curvature = margins - y, np.ones(len(y))
        gradient = x.T @ slopes / total + rho * (w - near)
        step = np.linalg.solve((x.T * curvature) @ x / total + rho * np.eye(len(w)), gradient)
        while value(w - step) > value(w) + 1e-12:
            step = step / 2
        w = w - step
    return w


def reference(model: str, rows: Rows, cuts: list[int], rounds: int, o: ADMMOptions) -> list[Round]:
    """Loops over vectors, and nothing clever."""
    x = np.hstack([rows.x.astype(np.float64), np.ones((len(rows), 1))])
    edges = [0, *cuts, len(rows)]
    parts = [(x[lo:hi], rows.y[lo:hi]) for lo, hi in pairwise(edges) if hi > lo]
    n, p = len(parts), x.shape[1]
    assert o.rho is not None
    z, u, rho, course = np.zeros(p), np.zeros((n, p)), o.rho, list[Round]()
    for _ in range(rounds):
        w = np.array([exact(model, a, b, z - u[i], rho, len(rows)) for i, (a, b) in enumerate(parts)])
        h = o.relaxation * w + (1 - o.relaxation) * z
        old, z = z, (h + u).mean(axis=0)
        threshold = o.l1 / (n * rho)
        z[:-1] = np.sign(z[:-1]) * np.maximum(np.abs(z[:-1]) - threshold, 0) * n * rho / (o.l2 + n * rho)
        u = u + h - z
        primal = np.sqrt(sum(np.linalg.norm(w[i] - z) ** 2 for i in range(n)))
        dual = rho * np.sqrt(n) * np.linalg.norm(z - old)
        course.append(Round(z, w, u, primal, float(dual), rho))
        if o.balance:
            share = primal / max(np.linalg.norm(w), np.sqrt(n) * np.linalg.norm(z))
            other = dual / (rho * np.linalg.norm(u))
            if share > o.balance * other or other > o.balance * share:
                factor = np.clip(np.sqrt(share / other), 0.1, 10)
                rho, u = rho * factor, u / factor
    return course


@pytest.mark.parametrize("model", ["logistic", "least squares"])
@pytest.mark.parametrize(
    "given",
    [
        {"l2": 0.01, "balance": 0.0},
        {"l2": 0.01, "balance": 0.0, "relaxation": 1.0},
        {"l1": 0.03, "balance": 0.0, "relaxation": 1.8},
        {"l1": 0.02, "l2": 0.05, "rho": 30.0},
        {"l2": 0.01, "rho": 1e-3, "balance": 1.5},
    ],
)
@pytest.mark.parametrize("cuts", [[], [100, 200], [7, 150, 150]])
def test_rounds_are_those_of_the_textbook(model: str, given: dict[str, Any], cuts: list[int]) -> None:
    """z, w, u, both residuals and rho of eight rounds; ranks have unequal numbers of rows, or none."""
    rows = problem(model)
    options = ADMMOptions(
        **{"rho": 0.1, "local_tolerance": 1e-9, "local_epochs": 1000, "eps_abs": 0.0, "eps_rel": 0.0, **given}
    )
    expected = reference(model, rows, cuts, 8, options)
    training = ranks(rows, model, options, size=len(cuts) + 1, rounds=8, cuts=cuts)
    edges = [0, *cuts, len(rows)]
    busy = [rank for rank in range(len(cuts) + 1) if edges[rank + 1] > edges[rank]]
    for k, wanted in enumerate(expected):
        figures, states = training.witnesses[0].figures[k], [training.witnesses[r].states[k + 1] for r in busy]
        close: Any = {"rtol": 1e-4, "atol": 1e-5 * float(np.abs(wanted.w).max())}
        np.testing.assert_allclose(states[0].shared["z"], wanted.z, **close)
        np.testing.assert_array_equal(states[0].params, states[0].shared["z"].astype(np.float32))
        assert figures["rho"] == pytest.approx(wanted.rho, rel=1e-4)
        for state, w, u in zip(states, wanted.w, wanted.u, strict=True):
            scale = state.shared["rho"][0] / figures["rho"]  # rho may have changed since
            np.testing.assert_allclose(state.private["w"], w, **close)
            np.testing.assert_allclose(state.private["u"] * scale, u, **close)
        size = np.sqrt((wanted.w**2).sum())
        assert figures["primal"] == pytest.approx(wanted.primal, rel=1e-3, abs=1e-6 * size)
        assert figures["dual"] == pytest.approx(wanted.dual, rel=1e-3, abs=1e-6 * size * wanted.rho)


vectors = st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(np.array)


@settings(deadline=None)
@given(
    z=vectors,
    new=vectors,
    near=st.sampled_from([1.0, 1e-3, 1e-6]),
    seed=st.integers(0, 1000),
    n=st.integers(1, 5),
    rho=st.floats(1e-3, 1e3),
    relaxation=st.floats(0.5, 1.95),
)
def test_norms_from_sums_are_the_norms(
    z: Array, new: Array, near: float, seed: int, n: int, rho: float, relaxation: float
) -> None:
    """Also close to the end, where all is a millionth of z."""
    rng = np.random.default_rng(seed)
    w = z + near * rng.standard_normal((n, 3))
    u = near * rng.standard_normal((n, 3))
    new = z + near * new
    e = relaxation * (w - z) + u
    sums = Sums(0.0, float(((w - z) ** 2).sum()), float((w**2).sum()), float((e**2).sum()))
    found = residuals(new, new - z, e.sum(axis=0), u.sum(axis=0), sums, rho, n, relaxation)
    size = near * (1 + float(np.abs(new - z).max()) / near)
    after = u + relaxation * w + (1 - relaxation) * z - new
    assert found.primal == pytest.approx(np.linalg.norm(w - new), rel=1e-6, abs=1e-6 * size)
    assert found.dual == pytest.approx(rho * np.sqrt(n) * np.linalg.norm(new - z), rel=1e-9)
    assert found.primal_scale == pytest.approx(max(np.linalg.norm(w), np.sqrt(n) * np.linalg.norm(new)), rel=1e-9)
    assert found.dual_scale == pytest.approx(rho * np.linalg.norm(after), rel=1e-6, abs=1e-6 * size * rho)


@settings(deadline=None)
@given(
    at=st.floats(-5, 5),
    l1=st.sampled_from([0.0, 0.1, 2.0]),
    l2=st.sampled_from([0.0, 0.5, 3.0]),
    weight=st.floats(0.1, 10),
)
def test_z_is_the_best_there_is(at: float, l1: float, l2: float, weight: float) -> None:
    """The bias is not penalised; where |at| is at most l1 / weight, the answer is 0 and not merely small."""
    z, bias = proximal(np.array([at, at]), l1, l2, weight, slice(0, 1))
    assert bias == at

    def cost(value: float) -> float:
        return l1 * abs(value) + l2 / 2 * value**2 + weight / 2 * (value - at) ** 2

    best = minimize_scalar(cost, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9})
    assert cost(float(z)) <= best.fun + 1e-9
    if abs(at) < l1 / weight:
        assert z == 0


@pytest.mark.parametrize(
    ("primal", "dual", "factor"),
    [
        (1.0, 1.0, 1.0),
        (1.9, 1.0, 1.0),
        (4.0, 1.0, 2.0),
        (1.0, 9.0, 1 / 3),
        (1e9, 1.0, 10.0),
        (1.0, 1e9, 0.1),
        (1.0, 0.0, 10.0),
        (0.0, 1.0, 0.1),
        (0.0, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize("scales", [(1.0, 1.0), (50.0, 1e-4)])
def test_rho_follows_relative_residuals(primal: float, dual: float, factor: float, scales: tuple[float, float]) -> None:
    found = Residuals(primal * scales[0], dual * scales[1], *scales)
    assert found.correction(2.0) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("primal", "dual", "stops"), [(0.28, 0.019, True), (0.3, 0.019, False), (0.28, 0.021, False), (0.0, 0.0, True)]
)
def test_it_stops_at_boyds_tolerances(primal: float, dual: float, stops: bool) -> None:
    """sqrt(n p) eps_abs + eps_rel times the scale of each, which is 0.29 and 0.02 here."""
    options = ADMMOptions(eps_abs=1e-3, eps_rel=1e-2)
    assert Residuals(primal, dual, 28.0, 1.0).small(options, numbers=100) is stops
