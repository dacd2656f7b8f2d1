"""The line search finds a step that keeps the conditions of Wolfe, on whatever is bounded below."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_lbfgs.search import CURVATURE, DECREASE, Search, after, begin, falls_enough, too_short

Phi = Callable[[float], tuple[float, float]]
SCALE = st.floats(-4, 4).map(lambda e: 10.0**e)


def find(phi: Phi, tries: int = 100, first: float = 1.0) -> tuple[float, int]:
    """The step, and how many were tried; they nest."""
    s = begin(*phi(0.0), first)
    for n in range(1, tries + 1):
        assert s.low < s.step < s.high
        value, slope = phi(s.step)
        enough = falls_enough(s, value, slope, noise=0)
        short = enough and too_short(s, slope)
        if enough and not short:
            return s.step, n
        s = after(s, value, slope, short=short, last=False)
    raise AssertionError(f"nothing after {tries} tries: {s}")


def parabola(at: float) -> Phi:
    return lambda t: ((t / at - 1) ** 2, 2 * (t / at - 1) / at)


def corner(at: float) -> Phi:
    """The minimum is a kink."""
    return lambda t: (max(at - t, 3 * (t - at)), -1.0 if t < at else 3.0)


def soft(at: float) -> Phi:
    """Straight lines far from the minimum, as losses of margins are."""
    return lambda t: (math.log(math.cosh(min(abs(t - at), 300.0))) + max(abs(t - at) - 300, 0), math.tanh(t - at))


def hilly(at: float) -> Phi:
    """Not convex."""
    return lambda t: (
        (t / at - 1) ** 2 + 0.1 * math.cos(9 * t / at),
        (2 * (t / at - 1) - 0.9 * math.sin(9 * t / at)) / at,
    )


def wall(at: float) -> Phi:
    """Nothing is known beyond."""
    return lambda t: (
        (math.nan, math.nan)
        if t > at
        else (-t / at, -1 / at)
        if t < at / 2
        else ((t / at - 1) ** 2 * 2 - 1, 4 * (t / at - 1) / at)
    )


@pytest.mark.parametrize("kind", [parabola, corner, soft, hilly, wall])
@settings(deadline=None)
@given(at=SCALE)
def test_steps_keep_the_conditions_of_wolfe(kind: Callable[[float], Phi], at: float) -> None:
    phi = kind(at)
    (value, slope), (step, tries) = phi(0.0), find(phi)
    there, steepness = phi(step)
    assert there <= value + DECREASE * step * slope
    assert steepness >= CURVATURE * slope
    assert tries <= 25


@settings(deadline=None)
@given(at=SCALE)
def test_cubics_find_the_minimum_of_a_parabola(at: float) -> None:
    """From between 0.1 and 10 times too far, one look is enough to know."""
    phi = parabola(at)
    s = begin(*phi(0.0), 4 * at)
    assert after(s, *phi(4 * at), short=False, last=False).step == pytest.approx(at)
    s = begin(*phi(0.0), 0.2 * at)
    assert after(s, *phi(0.2 * at), short=True, last=False).step == pytest.approx(at)


def test_slopes_decide_where_values_are_rounded() -> None:
    s = begin(1.0, -1e-9, 1.0)
    assert falls_enough(s, 1 + 1e-8, -1e-10, noise=1e-7)
    assert not falls_enough(s, 1 + 1e-8, 2e-9, noise=1e-7)
    assert not falls_enough(s, 1 + 1e-6, -1e-10, noise=1e-7)


def test_the_last_try_is_where_it_was_lower() -> None:
    s = begin(0.0, -1.0, 1.0)
    s = after(s, -0.99, -0.98, short=True, last=False)
    assert s.step > 1
    s = after(s, 5.0, 9.0, short=False, last=True)
    assert s.step == 1
    assert s.tries == 2


def test_it_is_kept_as_numbers() -> None:
    s = after(begin(1.0, -2.0, 3.0), math.nan, math.nan, short=False, last=False)
    assert s.step == pytest.approx(1.5)
    assert repr(Search(*map(float, s))) == repr(s._replace(tries=1.0, low=0.0))
