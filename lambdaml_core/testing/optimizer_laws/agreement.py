"""Laws of what all ranks must have alike: only collectives decide."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from lambdaml_core.testing.optimizer_laws.ranks import common, differing
from lambdaml_core.testing.optimizer_laws.training import SIZES, OptimizerCase, Training


class AgreementLaws(OptimizerCase):
    """Laws of several ranks, each of which knows its own rows and nothing else."""

    def test_all_ranks_make_the_same_collectives(self, training: Training) -> None:
        """All ranks make the same collectives in the same order, of arrays with equal names, dtypes and shapes.

        Else they wait for each other for ever. Ranks have unequal numbers of rows, and some have none: fix loops over
        a rank's own rows or loss with a collective in them. ``w.data.steps_per_epoch`` is equal on all ranks.
        """
        for ranks in _unequal(training):
            failed = _failure(ranks)
            first, *others = (ranks.witnesses[rank].asked for rank in range(ranks.size))
            for rank, asked in enumerate(others, 1):
                where = f"{len(ranks.rows)} rows on {ranks.size} ranks"
                for n, (ours, theirs) in enumerate(zip(first, asked, strict=False)):
                    assert ours == theirs, (
                        f"{where}: collective number {n} is {ours} on rank 0, {theirs} on rank {rank}"
                    )
                assert failed or len(first) == len(asked), f"{where}: rank {rank} makes {len(asked)} collectives"
            if failed:
                raise failed

    def test_all_ranks_return_the_same_figures(self, training: Training) -> None:
        """Every round returns the same figures on all ranks, ``stop`` among them, and all end with the same round.

        What a rank sees of its own rows is no ground to stop for all. Fix what figures come from: results of
        collectives and shared state.
        """
        for ranks in _unequal(training):
            failed = _failure(ranks)
            for rank in range(1, ranks.size):
                ours, theirs = (ranks.witnesses[r].figures for r in (0, rank))
                where = f"{len(ranks.rows)} rows on {ranks.size} ranks, rank {rank}"
                for round, (a, b) in enumerate(zip(ours, theirs, strict=False)):
                    assert repr(a) == repr(b), f"{where}: other figures than rank 0 in round {round}"
                assert failed or len(ours) == len(theirs), f"{where}: {len(theirs)} rounds, and {len(ours)} on rank 0"
            if failed:
                raise failed

    def test_shared_state_is_equal_on_all_ranks(self, training: Training) -> None:
        """After every round, ``params`` and ``shared`` have the same bytes on all ranks.

        They are saved once, by rank 0, and any rank goes on from them. Fix it: they may come only from earlier shared
        state and from results of collectives; what a rank computes from its own rows is ``private``.
        """
        for ranks in _unequal(training):
            ranks.run()
            for rank in range(1, ranks.size):
                states = zip(ranks.witnesses[0].states, ranks.witnesses[rank].states, strict=True)
                for round, (a, b) in enumerate(states):
                    different = ", ".join(differing(common(a), common(b)))
                    assert not different, f"{different} of rank {rank} of {ranks.size}: its own after {round} rounds"

    def test_figures_are_numbers(self, training: Training) -> None:
        """A round returns a mapping from words to numbers of Python, ``loss`` among them, finite where there are rows.

        They go into the history as JSON. Fix what is returned: ``float(...)`` of an array's element.
        """
        for size in SIZES:
            ranks = training.but(size=size, batch_size=len(training.rows))  # so that every round has rows
            ranks.run()
            for figures in (figures for witness in ranks.witnesses.values() for figures in witness.figures):
                assert "loss" in figures, f"there is no loss in {figures}"
                for name, value in figures.items():
                    assert isinstance(name, str), f"{name!r} is no word"
                    assert isinstance(value, int | float), f"{name} is {value!r}, of {type(value).__name__}"
                assert math.isfinite(figures["loss"]), f"the loss is {figures['loss']}"

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_ranks_may_have_no_rows(self, training: Training, count: int) -> None:
        """Where ranks or mini-batches have no rows, training goes on, and parameters stay finite.

        There may be fewer rows than ranks, and a small mini-batch leaves some ranks out. Fix divisions by a rank's own
        count: contribute sums and counts, and divide once by the count of all.
        """
        few = training.but(rows=training.rows.part(0, count))
        for size in SIZES:
            for batch_size in (1, count):
                ranks = few.but(size=size, batch_size=batch_size)
                told = ranks.run()
                where = f"{count} rows on {size} ranks, {batch_size} in a batch"
                assert np.isfinite(told[0].outcome.params).all(), f"{where}: parameters are not finite"
                losses = [figures["loss"] for figures in ranks.witnesses[0].figures]
                if batch_size == count:
                    assert all(map(math.isfinite, losses)), f"{where}: the loss is not finite, of {losses}"


def _failure(ranks: Training) -> Exception | None:
    """Run them; why they could not, if they could not: what it came from is to be said first."""
    try:
        ranks.run()
    except Exception as e:  # noqa: BLE001 - raised by the caller
        return e
    return None


def _unequal(training: Training) -> Iterator[Training]:
    """Ranks with numbers of rows that differ by one, 0 and 1 among them."""
    for size, counts in ((2, (41, 3)), (3, (41, 5, 2)), (4, (41, 9, 3))):
        for count in counts:
            if count <= len(training.rows):
                part = training.rows.part(0, count)
                yield training.but(rows=part, size=size, aggregators=1 + count % size, rounds=3)
