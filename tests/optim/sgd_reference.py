"""Stochastic gradient descent as a textbook loop in numpy; it shares nothing with the package but the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sgd_ranks import Array

from lambdaml_core.builtin import GASGDOptions, MASGDOptions, SGDOptions
from lambdaml_core.testing.optimizer_laws.rows import Share

F = np.float32
SETTINGS: list[dict[str, Any]] = [
    {"learning_rate": 0.3},
    {"learning_rate": 0.3, "l2": 0.01},
    {"learning_rate": 0.3, "momentum": 0.9},
    {"learning_rate": 0.1, "l1": 0.03, "l2": 0.01},
    {"learning_rate": 0.1, "momentum": 0.9, "l1": 0.03},
    {"learning_rate": 0.2, "momentum": 0.9, "nesterov": True, "l2": 0.01},
    {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True, "l1": 0.03, "schedule": "cosine", "warmup_steps": 5},
    {"learning_rate": 0.5, "momentum": 0.8, "l2": 0.01, "schedule": "inverse_sqrt"},
    {"learning_rate": 0.5, "schedule": "inverse", "decay_steps": 30},
    {"learning_rate": 0.5, "momentum": 0.5, "schedule": "step", "warmup_steps": 3},
]


def rate(o: SGDOptions, t: int, horizon: int) -> float:
    if t < o.warmup_steps:
        return o.learning_rate * (t + 1) / (o.warmup_steps + 1)
    t, horizon = t - o.warmup_steps, horizon - o.warmup_steps
    d = o.decay_steps
    factors = {
        "auto": 1.0,
        "constant": 1.0,
        "inverse": 1 / (1 + t / (d or 1)),
        "inverse_sqrt": 1 / np.sqrt(1 + t / (d or 1)),
        "step": o.decay_factor ** (t // (d or int(np.ceil(horizon / 3)))),
        "cosine": (1 + np.cos(np.pi * (t / horizon))) / 2,
    }
    return float(o.learning_rate * factors[o.schedule])


def gradient(p: Array, x: Any, y: Array) -> Array:
    """Of the sum of log losses; the last parameter is the bias if there is one more than features."""
    features = x.shape[1]
    margin = x @ p[:features] + (p[-1] if len(p) > features else F(0))
    slope = 1 / (1 + np.exp(-margin)) - y
    g = x.T @ slope
    return np.append(g, slope.sum()) if len(p) > features else g


def step(p: Array, v: Array, g: Array, rows: int, eta: float, o: SGDOptions, weights: int) -> tuple[Array, Array]:
    """New parameters and velocity; ``weights`` is how many parameters are penalised."""
    g = g / F(rows)
    g[:weights] += F(o.l2) * p[:weights]
    x = p - F(o.momentum) * v if o.nesterov else p
    v = F(o.momentum) * v - F(eta) * g
    x = x + v
    if o.l1:
        threshold = F(eta * o.l1)
        excess = np.where(x > threshold, threshold, np.where(x < -threshold, -threshold, x))
        excess[weights:] = 0
        x, v = x - excess, v - excess
    return x + F(o.momentum) * v if o.nesterov else x, v


def ga(batches: Sequence[tuple[Any, Array]], o: GASGDOptions, rounds: int, *, bias: bool = True) -> Array:
    """What GA-SGD does to mini-batches, those of all ranks put together."""
    features = batches[0][0].shape[1]
    p = np.zeros(features + bias, F)
    v = np.zeros_like(p)
    for t in range(rounds):
        parts = [batches[i % len(batches)] for i in range(t * o.accumulate, (t + 1) * o.accumulate)]
        g, rows = np.zeros_like(p), 0
        for x, y in parts:
            if len(y):
                g, rows = g + gradient(p, x, y), rows + len(y)
        if rows:
            p, v = step(p, v, g, rows, rate(o, t, rounds), o, features)
    return p


def ma(ranks: Sequence[Share], o: MASGDOptions, rounds: int) -> tuple[Array, list[float]]:
    """What MA-SGD does on several workers, one after the other: the parameters, and the loss of each round."""
    features = ranks[0].features
    p = np.zeros(features + 1, F)
    velocities = [np.zeros_like(p) for _ in ranks]
    steps = o.local_steps or o.local_epochs * ranks[0].steps_per_epoch
    losses = []
    for round in range(rounds):
        total, all_rows, loss = np.zeros_like(p), 0, 0.0
        for i, rank in enumerate(ranks):
            mine, v, rows = p, velocities[i] if o.keep_momentum else np.zeros_like(p), 0
            for t in range(round * steps, (round + 1) * steps):
                x, y, n, _ = rank.batch(t)
                if n:
                    loss += log_loss(mine, x, y)
                    mine, v = step(mine, v, gradient(mine, x, y), n, rate(o, t, rounds * steps), o, features)
                    rows += n
            velocities[i] = v
            total = total + F(rows) * mine if len(ranks) > 1 else mine
            all_rows += rows
        if all_rows:
            p = total / F(all_rows) if len(ranks) > 1 else total
        losses.append(loss / all_rows if all_rows else np.nan)
    return p, losses


def log_loss(p: Array, x: Any, y: Array) -> float:
    """The sum over rows, in float64."""
    margin = (x @ p[:-1] + p[-1]).astype(np.float64)
    return float(np.logaddexp(0, np.where(y > 0, -margin, margin)).sum())


def together(ranks: Sequence[Share]) -> list[tuple[Any, Array]]:
    """What the ranks have in each step of an epoch, put together."""
    steps = [[rank.batch(t) for rank in ranks] for t in range(ranks[0].steps_per_epoch)]
    return [(np.concatenate([b.x for b in step]), np.concatenate([b.y for b in step])) for step in steps]
