"""GA-SGD: one worker is a plain numpy loop bit for bit; several workers are one worker on the union of their rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgd_ranks import on_ranks, problem, run, run_ranks, shares
from sgd_reference import SETTINGS, ga, log_loss, together

from lambdaml_core.builtin import GASGDOptions, LinearOptions
from lambdaml_core.errors import RunError
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.ga_sgd import GASGD

MODEL = LogisticRegression(LinearOptions())
OPTIONS = [GASGDOptions(**s) for s in SETTINGS] + [GASGDOptions(**s, accumulate=3) for s in SETTINGS[:5:2]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_one_worker_is_bit_for_bit_a_plain_numpy_loop(options: GASGDOptions, sparse: bool, bias: bool) -> None:
    x, y = problem(1003, sparse=sparse)
    (data,) = shares(x, y, batch_size=100)
    state, _ = run(GASGD(options), LogisticRegression(LinearOptions(bias=bias)), data, 60)
    batches = [(x[t * 1003 // 11 : (t + 1) * 1003 // 11], y[t * 1003 // 11 : (t + 1) * 1003 // 11]) for t in range(11)]
    assert state.params.tobytes() == ga(batches, options, 60, bias=bias).tobytes()
    assert state.params.any()


@pytest.mark.parametrize("options", OPTIONS)
def test_four_workers_are_one_on_the_union_of_their_batches(options: GASGDOptions) -> None:
    ranks = shares(*problem(1003), batch_size=90, size=4)
    runs = [run_ranks(GASGD(options), MODEL, ranks, rounds=30, aggregators=k) for k in (1, 2, 3, 4)]
    states = [state for results in runs for state, _ in results]
    assert len({state.params.tobytes() for state in states}) == 1  # the same on all ranks, for every K
    assert all(f == runs[0][0][1] for results in runs for _, f in results)
    expected = ga(together(ranks), options, 30)
    assert np.linalg.norm(states[0].params - expected) <= 1e-5 * np.linalg.norm(expected)


@settings(max_examples=25)
@given(
    rows=st.integers(2, 40),
    size=st.integers(2, 5),
    batch_size=st.integers(1, 12),
    accumulate=st.integers(1, 3),
    settings=st.sampled_from(SETTINGS),
    aggregators=st.integers(1, 5),
)
def test_batches_and_ranks_may_be_empty(
    rows: int, size: int, batch_size: int, accumulate: int, settings: dict[str, Any], aggregators: int
) -> None:
    options = GASGDOptions(**settings, accumulate=accumulate)
    ranks = shares(*problem(rows), batch_size=batch_size, size=size)
    results = run_ranks(GASGD(options), MODEL, ranks, rounds=12, aggregators=min(aggregators, size))
    assert len({state.params.tobytes() for state, _ in results}) == 1
    expected = ga(together(ranks), options, 12)
    np.testing.assert_allclose(results[0][0].params, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_over_the_rows_of_all_ranks_and_nan_of_none() -> None:
    options = GASGDOptions(learning_rate=0.3, momentum=0.9, l2=0.1, accumulate=2)
    ranks = shares(*problem(11), batch_size=1, size=4)
    (_, figures), *_ = run_ranks(GASGD(options), MODEL, ranks, rounds=20, aggregators=2)
    batches = together(ranks)
    empty = 0
    for t, figure in enumerate(figures):
        x, y = (np.concatenate(parts) for parts in zip(batches[2 * t % 11], batches[(2 * t + 1) % 11], strict=True))
        empty += not len(y)
        expected = log_loss(ga(batches, options, t), x, y) / len(y) if len(y) else math.nan
        assert figure["loss"] == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert empty


def test_a_round_goes_through_as_many_batches_as_are_accumulated() -> None:
    assert [GASGD(GASGDOptions(accumulate=a)).steps_per_round(7) for a in (1, 20)] == [1, 20]


def test_divergence_is_an_error_of_all_ranks_that_names_the_round() -> None:
    ranks = shares(*problem(200), batch_size=50, size=2, classes=0)

    def diverges(rank: int, comm: Any) -> str:
        options = GASGDOptions(learning_rate=3, momentum=0.9, nesterov=True, l1=0.1, l2=0.1)
        with pytest.raises(RunError, match=r"the loss of round \d+ is (inf|nan)") as caught:
            run(GASGD(options), LeastSquares(LinearOptions()), ranks[rank], 500, comm)
        assert "learning_rate" in str(caught.value.hint)
        return caught.value.message

    assert len(set(on_ranks(diverges, 2))) == 1
