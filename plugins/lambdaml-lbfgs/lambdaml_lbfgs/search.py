"""The line search, one point after the other: numbers in, the next step out."""

from __future__ import annotations

import math
from typing import NamedTuple

DECREASE = 1e-4
CURVATURE = 0.9
_EXPAND = (2.0, 10.0)
_INSIDE = 0.1


class Search(NamedTuple):
    """Where a search along phi(t) = F(w + t d) stands; all numbers, so that the state can hold it.

    It looks for a step that lowers F enough, and behind which F falls much less steeply (the weak Wolfe conditions,
    Nocedal and Wright 3.6): between ``low``, the longest step that was found too short, and ``high``, the shortest that
    was found too long (Lewis and Overton 2013, algorithm 4.6, which ends on functions with kinks too), by cubic
    interpolation (Nocedal and Wright 3.59) instead of halving.

    Attributes:
        value, slope: phi and its derivative at 0; the slope is below 0.
        step: the next to try.
        tries: how many were tried.
        low, low_value, low_slope: the longest step that is too short, 0 at first.
        high, high_value, high_slope: the shortest step that is too long; infinite where there is none yet.
    """

    value: float
    slope: float
    step: float
    tries: float
    low: float
    low_value: float
    low_slope: float
    high: float
    high_value: float
    high_slope: float


def begin(value: float, slope: float, step: float) -> Search:
    """A search that will try this step first."""
    return Search(value, slope, step, 0, 0, value, slope, math.inf, math.nan, math.nan)


def falls_enough(s: Search, value: float, slope: float, noise: float) -> bool:
    """Whether phi has fallen enough at the step that was tried.

    By its values, the condition of Armijo; or where they differ by no more than ``noise`` by its slopes, which say the
    same of a parabola and are known to more digits (the approximate Wolfe conditions, Hager and Zhang 2005, section 4).
    """
    if not (math.isfinite(value) and math.isfinite(slope)):
        return False
    if value <= s.value + DECREASE * s.step * s.slope:
        return True
    return value <= s.value + noise and slope <= (2 * DECREASE - 1) * s.slope


def too_short(s: Search, slope: float) -> bool:
    """Whether phi still falls nearly as steeply as at 0."""
    return slope < CURVATURE * s.slope


def after(s: Search, value: float, slope: float, *, short: bool, last: bool) -> Search:
    """The search once its step was found too short or too long.

    Args:
        last: the next try is the last one: take what is known to be lower, if there is such a point.
    """
    tried = (s.step, value, slope)
    nearest = (s.low, s.low_value, s.low_slope)
    if short:
        s = s._replace(low=s.step, low_value=value, low_slope=slope)
    else:
        s = s._replace(high=s.step, high_value=value, high_slope=slope)
    s = s._replace(tries=s.tries + 1)
    if last and s.low > 0:
        return s._replace(step=s.low)
    if math.isinf(s.high):
        return s._replace(step=_between(_minimum(*nearest, *tried), *(times * s.low for times in _EXPAND), otherwise=1))
    margin = _INSIDE * (s.high - s.low)
    best = _minimum(s.low, s.low_value, s.low_slope, s.high, s.high_value, s.high_slope)
    return s._replace(step=_between(best, s.low + margin, s.high - margin, otherwise=0.5))


def _between(x: float, least: float, most: float, *, otherwise: float) -> float:
    """The nearest number within the bounds; where x is none, one at this share of the way between them."""
    return least + otherwise * (most - least) if math.isnan(x) else min(max(x, least), most)


def _minimum(a: float, fa: float, ga: float, b: float, fb: float, gb: float) -> float:
    """Where the cubic with these values and slopes at a < b has its minimum; NaN where it has none, or is unknown."""
    d = ga + gb - 3 * (fa - fb) / (a - b)
    square = d * d - ga * gb
    if not square >= 0:
        return math.nan
    root = math.sqrt(square)
    bottom = gb - ga + 2 * root
    if not (math.isfinite(bottom) and bottom > 0):
        return math.nan
    return b - (b - a) * (gb + root - d) / bottom
