"""Asynchronous GA and MA: in step they are what they are together, and each contribution counts once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sgd_ranks import Array, begin, on_ranks, problem, shares, workers

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions, SGDOptions
from lambdaml_core.comm.base import Arrays
from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import RunError
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.asynchronous import clocks_behind
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
from lambdaml_core.optim.schedule import rate

SIZE = 3
MODEL = LogisticRegression(LinearOptions())


class Board:
    """What every rank has published; ``meet`` makes all ranks see the same clocks."""

    def __init__(self, meet: bool) -> None:
        self.slots: list[dict[str, NDArray[Any]]] = [{} for _ in range(SIZE)]
        self.clocks = [0] * SIZE
        self.barrier = threading.Barrier(SIZE if meet else 1)


class BoardExchange:
    """One rank's view of it."""

    def __init__(self, board: Board, rank: int) -> None:
        self.board, self.rank = board, rank
        self.asked: list[int] = []
        self.finished: set[int] = set()

    def resume(self, x: Arrays) -> int:
        for name, value in self.board.slots[self.rank].items():
            x[name][...] = value
        return self.board.clocks[self.rank]

    def publish(self, x: Arrays, *, clock: int, last: bool = False) -> None:
        self.board.slots[self.rank] = {name: value.copy() for name, value in x.items()}
        self.board.clocks[self.rank] = clock

    def merge(self, x: Arrays, *, min_clock: int) -> Sequence[int]:
        self.asked.append(min_clock)
        self.board.barrier.wait(60)
        for name, value in x.items():
            value[...] = sum(slot[name] for slot in self.board.slots if slot)
        clocks = list(self.board.clocks)
        self.board.barrier.wait(60)
        return clocks


def both(
    make: Callable[..., Optimizer], options: Callable[..., SGDOptions], values: dict[str, Any], rounds: int
) -> tuple[Array, Array]:
    """The parameters in step and asynchronously in step, from the same start; batches of 12 rows over all ranks."""
    x, y = problem(60)
    data = shares(x, y, batch_size=12, size=SIZE)
    board = Board(meet=True)

    def train(rank: int, comm: Engine, asynchronous: bool) -> Array:
        optimizer = make(options(**values, asynchronous=asynchronous))
        exchange = BoardExchange(board, rank) if asynchronous else None
        views = [w._replace(exchange=exchange) for w in workers(MODEL, data[rank], comm, rounds)]
        s = begin(optimizer, views[0])
        for w in views:
            optimizer.round(w, s)
        return s.params.copy()

    together = on_ranks(lambda rank, comm: train(rank, comm, False), SIZE)
    alone = on_ranks(lambda rank, comm: train(rank, comm, True), SIZE)
    assert all(np.array_equal(p, alone[0]) for p in alone)
    return together[0], alone[0]


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "constant"},
        {"schedule": "constant", "l2": 0.1},
        {"schedule": "cosine", "accumulate": 2},
        {"schedule": "inverse", "decay_steps": 4, "warmup_steps": 3},
    ],
)
def test_ga_in_step_is_ga(values: dict[str, Any]) -> None:
    together, alone = both(GASGD, GASGDOptions, {"learning_rate": 0.5, **values}, rounds=12)
    np.testing.assert_allclose(alone, together, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "constant", "local_steps": 2},
        {"schedule": "constant", "l2": 0.1, "momentum": 0.5},
        {"schedule": "cosine", "local_steps": 3, "l1": 0.01},
    ],
)
def test_ma_in_step_is_ma(values: dict[str, Any]) -> None:
    together, alone = both(MASGD, MASGDOptions, {"learning_rate": 0.5, **values}, rounds=6)
    np.testing.assert_allclose(alone, together, rtol=2e-5, atol=2e-6)


def test_by_itself_the_rate_falls_with_the_root_of_the_epochs() -> None:
    """An epoch is five steps here."""
    o = SGDOptions(learning_rate=0.4)
    assert [rate(o, t, 100, 5) for t in (0, 5, 15, 40)] == pytest.approx([0.4, 0.4 / 2**0.5, 0.2, 0.4 / 3])
    assert {rate(o, t, 100) for t in range(100)} == {0.4}
    first, second = (
        both(GASGD, GASGDOptions, {"learning_rate": 0.4, **values}, rounds=20)[1]
        for values in ({}, {"schedule": "inverse_sqrt", "decay_steps": 5})
    )
    np.testing.assert_array_equal(first, second)


def ranks(board: Board, optimizer: Optimizer, rounds: int) -> list[tuple[Worker, State]]:
    """All ranks at their start, each of which is then alone on this thread."""
    x, y = problem(60)
    data = shares(x, y, batch_size=12, size=SIZE)

    def start(rank: int, comm: Engine) -> tuple[Worker, State]:
        w = next(workers(MODEL, data[rank], comm, rounds))._replace(exchange=BoardExchange(board, rank))
        return w, begin(optimizer, w)

    return list(on_ranks(start, SIZE))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([GASGD(GASGDOptions(asynchronous=True, l2=0.01)), MASGD(MASGDOptions(asynchronous=True))]),
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.booleans()), max_size=20),
)
def test_whoever_comes_when_all_contributions_count_once(
    optimizer: Optimizer, turns: Sequence[tuple[int, bool]]
) -> None:
    """Also where a process is replaced, which goes on from its slot as if nothing had been."""
    board = Board(meet=False)
    processes = ranks(board, optimizer, 20)
    start = processes[0][1].shared["start"].astype(np.float64)
    for rank, replaced in turns:
        w, s = processes[rank]
        if replaced:
            fresh = ranks(board, optimizer, 20)[rank][1]
            assert all(np.array_equal(fresh.private[name], s.private[name]) for name in ("sum", "totals"))
            processes[rank] = w, s = w, fresh
        clock = board.clocks[rank]
        figures = optimizer.round(w._replace(round=clock), s)
        assert board.clocks[rank] == clock + 1
        behind = [max(0, clock + 1 - c) for r, c in enumerate(board.clocks) if r != rank]
        assert figures["staleness"] == sum(behind) / 2
        assert figures["staleness_max"] == max(behind)
        total = start + sum(slot["sum"] for slot in board.slots if slot)
        np.testing.assert_array_equal(s.params, total.astype(np.float32))


@pytest.mark.parametrize("staleness", [None, 1, 4])
def test_it_asks_for_no_more_than_the_staleness(staleness: int | None) -> None:
    board = Board(meet=False)
    optimizer = GASGD(GASGDOptions(asynchronous=True, staleness=staleness))
    w, s = ranks(board, optimizer, 20)[1]
    for clock in range(6):
        optimizer.round(w._replace(round=clock), s)
    assert isinstance(w.exchange, BoardExchange)
    assert w.exchange.asked[1:] == [0 if staleness is None else max(0, c - staleness) for c in range(1, 7)]


def test_the_loss_is_of_all_rows_since_the_last_look() -> None:
    board = Board(meet=False)
    optimizer = GASGD(GASGDOptions(asynchronous=True))
    (first, a), (second, b), _ = ranks(board, optimizer, 20)
    for clock in range(2):
        optimizer.round(second._replace(round=clock), b)
    losses, rows = board.slots[1]["totals"]
    own = MODEL.loss_and_gradient(a.params, first.data.batch(0), np.empty_like(a.params))
    n = first.data.batch(0).n
    assert optimizer.round(first, a)["loss"] == pytest.approx((losses + own) / (rows + n), rel=1e-12)


def test_what_diverges_says_so() -> None:
    board = Board(meet=False)
    optimizer = GASGD(GASGDOptions(asynchronous=True))
    w, s = ranks(board, optimizer, 20)[0]
    s.private["sum"][3] = 1e300  # which the parameters cannot hold
    with pytest.raises(RunError, match="training diverged: the parameters after round 1 are not finite"):
        optimizer.round(w, s)
    s.params[:] = np.nan
    s.private["sum"][3] = 0
    with pytest.raises(RunError, match="training diverged"):
        optimizer.round(w, s)


@pytest.mark.parametrize(("finished", "behind"), [(set(), [2, 4]), ({2}, [2]), ({1, 2}, [0])])
def test_who_has_finished_is_behind_nobody(finished: set[int], behind: list[int]) -> None:
    exchange = BoardExchange(Board(meet=False), 0)
    exchange.finished = finished
    assert clocks_behind(exchange, 0, [5, 3, 1]) == behind
