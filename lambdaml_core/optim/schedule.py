"""How the step size changes with the round."""

from __future__ import annotations

import math


def rate(schedule: str, learning_rate: float, round: int) -> float:
    """The step size of a round, counted from 0.

    ``constant``: learning_rate. ``inverse_sqrt``: learning_rate / sqrt(1 + round), the decay under which the mean
    iterate of stochastic gradient descent converges on convex losses (Robbins and Monro 1951; Zinkevich 2003).
    """
    if schedule == "inverse_sqrt":
        return learning_rate / math.sqrt(1 + round)
    return learning_rate
