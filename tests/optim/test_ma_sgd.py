"""MA-SGD: a numpy simulation of all its workers bit for bit, and what it has in common with GA-SGD."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgd_ranks import cut, on_ranks, problem, run, run_ranks, shares
from sgd_reference import SETTINGS, ga, ma, together

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions
from lambdaml_core.errors import RunError
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD

MODEL = LogisticRegression(LinearOptions())
LENGTHS: list[dict[str, Any]] = [{}, {"local_epochs": 2}, {"local_steps": 5}]
OPTIONS = [
    *(MASGDOptions(**s, **LENGTHS[i % 3]) for i, s in enumerate(SETTINGS)),
    *(MASGDOptions(**s, local_steps=4, keep_momentum=True) for s in SETTINGS[2:6:2]),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sparse", [False, True])
def test_one_worker_is_bit_for_bit_plain_mini_batch_sgd(options: MASGDOptions, sparse: bool) -> None:
    ranks = shares(*problem(503, sparse=sparse), batch_size=100)
    state, figures = run(MASGD(options), MODEL, ranks[0], 7)
    expected, losses = ma(ranks, options, 7)
    assert state.params.tobytes() == expected.tobytes()
    assert [f["loss"] for f in figures] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("settings", [s for s in SETTINGS if "momentum" not in s])
def test_one_worker_is_ga_sgd_bit_for_bit(settings: dict[str, Any]) -> None:
    (data,) = shares(*problem(503), batch_size=100)
    averaged, _ = run(MASGD(MASGDOptions(**settings, local_steps=5)), MODEL, data, 8)
    state, _ = run(GASGD(GASGDOptions(**settings)), MODEL, data, 40)
    assert averaged.params.tobytes() == state.params.tobytes()


@pytest.mark.parametrize("options", OPTIONS)
def test_workers_are_their_numpy_simulation_bit_for_bit_for_every_k(options: MASGDOptions) -> None:
    x, y = problem(503)
    for size in (2, 4):
        ranks = shares(x, y, batch_size=90, size=size)
        expected, losses = ma(ranks, options, 6)
        for aggregators in range(1, size + 1):
            results = run_ranks(MASGD(options), MODEL, ranks, rounds=6, aggregators=aggregators)
            assert {state.params.tobytes() for state, _ in results} == {expected.tobytes()}
            for _, figures in results:
                assert figures == results[0][1]
                assert [f["loss"] for f in figures] == pytest.approx(losses, rel=1e-5)


@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 40), min_size=1, max_size=4).map(sorted),
    steps=st.integers(1, 9),
    options=st.sampled_from(OPTIONS),
    aggregators=st.integers(1, 5),
)
def test_shares_may_be_skewed_and_empty(cuts: list[int], steps: int, options: MASGDOptions, aggregators: int) -> None:
    ranks = cut(*problem(40), cuts, steps)
    results = run_ranks(MASGD(options), MODEL, ranks, rounds=4, aggregators=min(aggregators, len(ranks)))
    expected, losses = ma(ranks, options, 4)
    assert {state.params.tobytes() for state, _ in results} == {expected.tobytes()}
    assert [f["loss"] for f in results[0][1]] == pytest.approx(losses, rel=1e-4, abs=1e-6, nan_ok=True)


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 40), min_size=1, max_size=4).map(sorted),
    steps=st.integers(1, 9),
    settings=st.sampled_from([s for s in SETTINGS if "momentum" not in s and "l1" not in s]),
)
def test_means_after_each_step_are_ga_sgd(cuts: list[int], steps: int, settings: dict[str, Any]) -> None:
    """The mean of w - r g_i / n_i, weighted by n_i, is w - r (sum of g_i) / (sum of n_i)."""
    ranks = cut(*problem(40), cuts, steps)
    results = run_ranks(MASGD(MASGDOptions(**settings, local_steps=1)), MODEL, ranks, rounds=20)
    expected = ga(together(ranks), GASGDOptions(**settings), 20)
    np.testing.assert_allclose(results[0][0].params, expected, rtol=1e-3, atol=1e-5)


def test_a_round_without_rows_changes_nothing() -> None:
    ranks = cut(*problem(3), [1, 2], 10)
    (state, figures), *_ = run_ranks(MASGD(MASGDOptions(local_steps=1)), MODEL, ranks, rounds=9)
    assert all(math.isnan(f["loss"]) for f in figures)  # the rows are in the last of ten batches
    assert not state.params.any()


def test_a_round_is_local_steps_or_local_epochs() -> None:
    lengths = [MASGD(MASGDOptions(**length)).steps_per_round(7) for length in LENGTHS]
    assert lengths == [7, 14, 5]


def test_divergence_on_one_rank_is_the_same_error_on_all() -> None:
    x, y = problem(200)
    x[150:] *= 9
    ranks = shares(x, y, batch_size=50, size=4, classes=0)

    def diverges(rank: int, comm: Any) -> str:
        options = MASGDOptions(learning_rate=0.1, momentum=0.9, nesterov=True, l1=0.1, l2=0.1, local_steps=100)
        with pytest.raises(RunError, match=r"the loss of round 0 is (inf|nan)") as caught:
            run(MASGD(options), LeastSquares(LinearOptions()), ranks[rank], 20, comm)
        assert "learning_rate" in str(caught.value.hint)
        return caught.value.message

    assert len(set(on_ranks(diverges, 4))) == 1
    run_ranks(MASGD(MASGDOptions(learning_rate=0.1)), LeastSquares(LinearOptions()), ranks[:3], rounds=20)


def test_with_l1_the_mean_has_the_zeros_that_all_workers_have() -> None:
    options = MASGDOptions(learning_rate=0.1, l1=0.1)
    results = run_ranks(MASGD(options), MODEL, shares(*problem(500), batch_size=100, size=4), rounds=40)
    zeros = np.count_nonzero(results[0][0].params == 0)
    assert 0 < zeros < 7
