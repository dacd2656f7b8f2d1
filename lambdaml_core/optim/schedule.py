"""How the step size changes from step to step; a step is one update of the parameters."""

from __future__ import annotations

import math

from lambdaml_core.builtin import SGDOptions


def rate(o: SGDOptions, step: int, horizon: int, epoch: int | None = None) -> float:
    """The step size of a step.

    In the first W = ``warmup_steps`` it rises linearly, learning_rate * (step + 1) / (W + 1) (Goyal et al. 2017,
    section 2.2). The schedule proper comes after, with t = step - W of T = horizon - W steps (He et al. 2019,
    section 3.1), so that learning_rate is the largest step size there is, and that of t = 0. D is ``decay_steps``:

    - ``constant``, and ``auto`` where ranks take steps together: learning_rate.
    - ``inverse``: learning_rate / (1 + t / D), the classic decay of stochastic approximation (Robbins and Monro 1951).
    - ``inverse_sqrt``: learning_rate / sqrt(1 + t / D), under which the regret on convex losses vanishes (Zinkevich
      2003).
    - ``step``: learning_rate * decay_factor ^ floor(t / D); D is a third of T, rounded up, where it is not given.
    - ``cosine``: learning_rate * (1 + cos(pi t / T)) / 2, which is 0 at the horizon (Loshchilov and Hutter 2017,
      equation 5, without restarts).
    - ``auto`` where they do not: inverse_sqrt, D the steps of an epoch (Jiang et al. 2021, section 4.1: asynchronous
      training is unstable without).

    Args:
        step: its number, from 0.
        horizon: how many steps are planned.
        epoch: steps of an epoch, where ranks do not take them together.
    """
    warmup = o.warmup_steps
    if step < warmup:
        return o.learning_rate * (step + 1) / (warmup + 1)
    t, total = step - warmup, max(1, horizon - warmup)
    if o.schedule == "inverse":
        return o.learning_rate / (1 + t / (o.decay_steps or 1))
    if o.schedule == "inverse_sqrt":
        return o.learning_rate / math.sqrt(1 + t / (o.decay_steps or 1))
    if o.schedule == "auto" and epoch is not None:
        return o.learning_rate / math.sqrt(1 + t / epoch)
    if o.schedule == "step":
        falls = t // (o.decay_steps or -(-total // 3))
        return float(o.learning_rate * o.decay_factor**falls)
    if o.schedule == "cosine":
        return o.learning_rate * (1 + math.cos(math.pi * min(t / total, 1))) / 2
    return o.learning_rate
