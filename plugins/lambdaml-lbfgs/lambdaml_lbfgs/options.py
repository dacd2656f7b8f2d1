"""Options of ``lbfgs``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class LBFGSOptions:
    """Options of ``lbfgs``."""

    l1: float = option(0.0, help="weight of ||w||_1, the bias left out; gives exact zeros", minimum=0)
    l2: float = option(0.0, help="weight of (l2/2) ||w||^2, the bias left out", minimum=0)
    history: int | None = option(
        None,
        help="latest steps that the curvature is estimated from; default: what 32 MiB hold, 10 to 100; with l1 10",
        unit="steps",
        minimum=1,
    )
    tolerance: float = option(
        1e-6,
        help="stop once the gradient's norm is this share of what it was at the start, or ten steps lower the "
        "objective by less than this share of it",
        minimum=0,
        maximum=1,
    )
    tries: int = option(20, help="most points looked at along one direction", unit="rounds", minimum=1)
