"""Laws of what a round is a function of: its arguments, and nothing around it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from lambdaml_core.comm.base import Arrays
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.optimizer_laws.ranks import differing
from lambdaml_core.testing.optimizer_laws.seclusion import Secluded, seclude
from lambdaml_core.testing.optimizer_laws.training import SIZES, OptimizerCase, Training, assert_same
from lambdaml_core.testing.optimizer_laws.witness import Asked, Witness

T = TypeVar("T")


class SurroundingsLaws(OptimizerCase):
    """Laws of the same run in other surroundings."""

    @pytest.fixture
    def chance(self) -> Iterator[Callable[[int], None]]:
        """A function that sets the global generators; they are put back."""
        numpys, pythons = np.random.get_state(), random.getstate()

        def seed(number: int) -> None:
            np.random.seed(number)
            random.seed(number)

        yield seed
        np.random.set_state(numpys)
        random.setstate(pythons)

    def test_two_runs_give_the_same_bytes(
        self, training: Training, chance: Callable[[int], None], tmp_path: Path
    ) -> None:
        """A second run has the same figures and states, over another channel, with every number of aggregators, and
        whatever the global generators of numpy and Python hold.

        Fix draws from ``np.random``, ``random`` or an unseeded generator: ``w.rng(purpose)`` is keyed by seed, rank,
        round and purpose.
        """
        for size in SIZES:
            chance(0)
            whole = training.but(size=size)
            told = whole.run()
            for aggregators in range(1, size + 1):
                chance(aggregators)
                second = whole.but(aggregators=aggregators)
                files = open_storage(f"file://{tmp_path}/{size}?sync=false") if aggregators == 2 else None
                again = dict(enumerate(second.run(files)))
                if files is not None:
                    files.close()
                assert_same(whole, told, second, again, f"in a second run with {aggregators} aggregators")

    @pytest.mark.parametrize("size", [2, 3])
    def test_order_of_arrival_changes_nothing(self, training: Training, size: int) -> None:
        """Whichever rank is first to work in a round, figures and states have the same bytes.

        Workers are of unequal speed. Fix what ranks exchange outside of collectives: a class's or a module's variable,
        or a place that the last writer wins.
        """
        whole = training.but(size=size)
        told = whole.run()
        for order in (range(size), range(size)[::-1]):
            turns = _Turns(order, self.patience_s)
            ordered = whole.but(witness=lambda o, turns=turns: _InTurn(o, turns))
            again = dict(enumerate(ordered.run()))
            assert_same(whole, told, ordered, again, f"with ranks that work in the order {list(order)}")

    @pytest.mark.parametrize("size", [1, 2])
    def test_a_round_looks_at_nothing_but_its_arguments(
        self, training: Training, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``start`` and ``round`` ask for no time, no chance but ``w.rng``, no environment, host or process, and for no
        file or connection.

        A replay is at another time in another place, and must come to the same bytes. Fix the call that the failure
        names: what should be known is an option, or an argument.
        """
        training.but(size=size).run()  # what is imported and built at first use may look around
        seclude(monkeypatch, training.optimizer)
        training.but(size=size, witness=Secluded).run()

    def test_rows_are_left_as_they_are(self, training: Training) -> None:
        """Training changes no byte of the rows.

        A mini-batch is a view, and comes again in the next epoch. Fix operations in place on ``batch.x``, ``batch.y``
        or ``batch.weights``.
        """
        weights = np.linspace(0.5, 1.5, len(training.rows)).astype(np.float32)
        rows = replace(training.rows, weights=weights)
        for size in (1, 3):
            shares = rows.shares(size, training.batch_size)
            before = [share.content() for share in shares]
            training.but(size=size, shares=shares).run()
            for rank, (share, content) in enumerate(zip(shares, before, strict=True)):
                assert not differing(content, share.content()), f"rows of rank {rank} of {size} have been changed"


class _Turns:
    """Who may work on a round: the first of the order, and others once the one before has given its contribution."""

    def __init__(self, order: Sequence[int], patience_s: float) -> None:
        self._before = dict(zip(order[1:], order, strict=False))
        self._patience_s = patience_s
        self._given: dict[int, int] = {}
        self._changed = threading.Condition()

    def wait(self, rank: int, round: int) -> None:
        before = self._before.get(rank)
        if before is not None:
            with self._changed:
                self._changed.wait_for(lambda: self._given.get(before, -1) >= round, self._patience_s)

    def given(self, rank: int, round: int) -> None:
        with self._changed:
            self._given[rank] = round
            self._changed.notify_all()


class _InTurn(Witness):
    def __init__(self, optimizer: Optimizer, turns: _Turns) -> None:
        super().__init__(optimizer)
        self._turns, self._rank = turns, 0

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        self._rank = w.rank
        self._turns.wait(w.rank, w.round)
        try:
            return super().round(w, s)
        finally:
            self._turns.given(w.rank, w.round)

    def exchange(self, asked: Asked, do: Callable[[], T]) -> T:
        if asked.round >= 0 and not asked.fills:
            self._turns.given(self._rank, asked.round)
        return super().exchange(asked, do)

    def fill(self, x: Arrays, do: Callable[[], None]) -> None:
        super().fill(x, do)
        self._turns.given(self._rank, self.number)
