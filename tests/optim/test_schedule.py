"""Schedules are the formulas of the literature: numbers of torch 2.13's schedulers, and laws of all schedules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.builtin import SGDOptions
from lambdaml_core.optim.schedule import rate

SCHEDULES = ["auto", "constant", "inverse", "inverse_sqrt", "step", "cosine"]
options = st.sampled_from(SCHEDULES).flatmap(
    lambda schedule: st.builds(
        SGDOptions,
        learning_rate=st.floats(1e-4, 10),
        schedule=st.just(schedule),
        decay_steps=st.none() if schedule in ("auto", "constant", "cosine") else st.none() | st.integers(1, 50),
        decay_factor=st.floats(0.01, 1),
        warmup_steps=st.integers(0, 20),
    )
)

# SequentialLR(sgd, [LinearLR(sgd, 1 / 4, 1, 3), S], [3]), or S alone, of learning rate 0.5 in its first 12 steps
TORCH: list[tuple[dict[str, Any], list[float]]] = [
    (  # CosineAnnealingLR(sgd, 12)
        {"schedule": "cosine"},
        [
            0.5,
            0.4914815,
            0.4665064,
            0.4267767,
            0.375,
            0.3147048,
            0.25,
            0.1852952,
            0.125,
            0.0732233,
            0.0334936,
            0.0085185,
        ],
    ),
    (  # StepLR(sgd, 5, 0.3)
        {"schedule": "step", "decay_steps": 5, "decay_factor": 0.3},
        [0.5] * 5 + [0.15] * 5 + [0.045] * 2,
    ),
    (  # StepLR(sgd, 4, 0.1)
        {"schedule": "step"},
        [0.5] * 4 + [0.05] * 4 + [0.005] * 4,
    ),
    (  # ConstantLR(sgd, 1)
        {"warmup_steps": 3},
        [0.125, 0.25, 0.375] + [0.5] * 9,
    ),
    (  # CosineAnnealingLR(sgd, 9)
        {"schedule": "cosine", "warmup_steps": 3},
        [0.125, 0.25, 0.375, 0.5, 0.4849232, 0.4415111, 0.375, 0.293412, 0.206588, 0.125, 0.0584889, 0.0150768],
    ),
    (  # StepLR(sgd, 4, 0.1)
        {"schedule": "step", "warmup_steps": 3, "decay_steps": 4},
        [0.125, 0.25, 0.375] + [0.5] * 4 + [0.05] * 4 + [0.005],
    ),
    (  # LambdaLR(sgd, lambda t: 1 / (1 + t / 2))
        {"schedule": "inverse", "warmup_steps": 3, "decay_steps": 2},
        [0.125, 0.25, 0.375, 0.5, 0.3333333, 0.25, 0.2, 0.1666667, 0.1428571, 0.125, 0.1111111, 0.1],
    ),
]


@pytest.mark.parametrize(("settings", "expected"), TORCH)
def test_rates_are_those_of_torch(settings: dict[str, Any], expected: list[float]) -> None:
    o = SGDOptions(learning_rate=0.5, **settings)
    assert [rate(o, t, 12) for t in range(12)] == pytest.approx(expected, abs=1e-7)


def test_rates_fall_with_the_step_and_with_its_root() -> None:
    inverse = SGDOptions(learning_rate=0.5, schedule="inverse")
    root = SGDOptions(learning_rate=0.5, schedule="inverse_sqrt")
    slower = SGDOptions(learning_rate=0.5, schedule="inverse_sqrt", decay_steps=100)
    assert [rate(inverse, t, 9) for t in (0, 1, 99)] == [0.5, 0.25, 0.005]
    assert [rate(root, t, 9) for t in (0, 3, 99)] == [0.5, 0.25, 0.05]
    assert [rate(slower, t, 9) for t in (0, 300)] == [0.5, 0.25]


@given(o=options, horizon=st.integers(1, 200))
def test_rates_rise_to_the_learning_rate_in_the_warm_up_and_never_again(o: SGDOptions, horizon: int) -> None:
    rates = [rate(o, t, horizon) for t in range(max(horizon, o.warmup_steps + 1))]
    first, rest = rates[: o.warmup_steps + 1], rates[o.warmup_steps :]
    assert all(0 < a < b for a, b in pairwise(first))
    assert rest[0] == o.learning_rate
    assert all(a >= b >= 0 for a, b in pairwise(rest))


@given(o=options, horizon=st.integers(22, 200))
def test_cosine_ends_at_0(o: SGDOptions, horizon: int) -> None:
    o = SGDOptions(learning_rate=o.learning_rate, schedule="cosine", warmup_steps=o.warmup_steps)
    assert [rate(o, t, horizon) for t in (horizon, horizon + 9)] == [0, 0]
