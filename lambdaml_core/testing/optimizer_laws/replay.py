"""Laws of replays: whoever starts again, wherever, comes to the same bytes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from lambdaml_core.comm.base import Arrays
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.testing.optimizer_laws.ranks import Told, differing, fresh_channel, results
from lambdaml_core.testing.optimizer_laws.rows import Share
from lambdaml_core.testing.optimizer_laws.training import SIZES, OptimizerCase, Training, assert_same, fresh
from lambdaml_core.testing.optimizer_laws.witness import Spoiled, Witness


class ReplayLaws(OptimizerCase):
    """Laws of workers that are replaced. In replacements scratch memory holds something else than it did."""

    @pytest.mark.parametrize("size", SIZES)
    def test_replay_from_every_round_gives_the_same_bytes(self, training: Training, size: int) -> None:
        """A rank that starts again from any round, and finds all results, comes to the same figures and state.

        ``fill`` is not called then. Fix what a later line needs of it: compute that before the collective, or let it
        be in the result. Fix what an instance remembers, and generators that are kept: draw from ``w.rng(purpose)``.
        """
        whole = training.but(size=size, aggregators=1 + size // 2)
        channel = fresh_channel()
        told = whole.run(channel)
        for rank in range(size):
            for start in _starts(told[rank]):
                replay = whole.but(witness=Spoiled)
                again = replay.go_on(channel, {rank: start})
                assert_same(whole, told, replay, again, "with all results")

    @pytest.mark.parametrize("size", SIZES)
    def test_replay_with_any_prefix_of_results_gives_the_same_bytes(self, training: Training, size: int) -> None:
        """Ranks that start again, each from a round of its own, with only the first results there, come to the same.

        They go through some rounds without ``fill`` and through others with it. Fix what these two ways have not in
        common.
        """
        for aggregators in range(1, size + 1):
            whole = training.but(size=size, aggregators=aggregators)
            channel = fresh_channel()
            told = whole.run(channel)
            for cut in _cuts(told[0].sequence, aggregators):
                known = [[c for c in _starts(of) if c is None or c.sequence <= cut] for of in told]
                for turn in range(2):  # all from the newest; each from another one
                    starts = {rank: known[rank][-1 - turn * (rank + cut) % len(known[rank])] for rank in range(size)}
                    replay = whole.but(witness=Spoiled)
                    again = replay.go_on(_prefix(channel, cut), starts)
                    assert_same(whole, told, replay, again, f"with the first {cut} results")

    @pytest.mark.parametrize("size", [1, 3])
    def test_resumed_equals_uninterrupted(self, training: Training, size: int) -> None:
        """All ranks that go on from a stored checkpoint of any round, with no results at all, come to the same bytes.

        Fix what is not in the state: all that survives a round belongs there.
        """
        whole = training.but(size=size)
        told = whole.run()
        for checkpoints in zip(*(of.notebook.boundaries for of in told), strict=True):
            stored = dict(enumerate(_stored(checkpoints)))
            resumed = whole.but(aggregators=size, witness=Spoiled)
            again = resumed.go_on(fresh_channel(), stored, generation=1)
            assert_same(whole, told, resumed, again, "resumed")

    def test_fill_writes_nothing_but_its_arrays(self, training: Training) -> None:
        """``fill`` changes no array of the state that is not its collective's, and no row.

        A replay that finds the result never calls it. Fix it: do before the collective, in every round, what brings
        private state forward (``lambdaml_core/optim/ma_sgd.py`` shows how).
        """
        for size in (1, 2):
            shares = training.rows.shares(size, training.batch_size)
            training.but(size=size, shares=shares, witness=lambda o, shares=shares: _FillWatch(o, shares)).run()

    @pytest.mark.parametrize("size", [2, 3])
    def test_replayed_rounds_compute_nothing(self, training: Training, size: int) -> None:
        """Where ranks have no private state, a round whose results are all found reads no row.

        A replacement then catches up at once, however many rounds it has to go through. Fix it: compute the
        contribution in ``fill``, and do not call the model before the collective.
        """
        shares = training.rows.shares(size, training.batch_size)
        whole = training.but(size=size, shares=shares)
        channel = fresh_channel()
        told = whole.run(channel)
        witness = whole.witnesses[0]
        if witness.states[0].private:
            pytest.skip("no replay without computing declared: State.private is not empty")
        if any(asked.operation != "all_reduce" for asked in witness.asked if asked.round >= 0):
            pytest.skip("no replay without computing declared: not all collectives are all_reduce, which takes fill")
        first = told[0].notebook.boundaries[0]
        for rank, share in enumerate(shares):
            replay = whole.but(witness=lambda o, share=share: _ReadWatch(o, share))
            replay.go_on(channel, {rank: first})
            watch = replay.witnesses[rank]
            assert isinstance(watch, _ReadWatch)
            assert not watch.reads, f"rank {rank} of {size} reads rows {watch.reads} times in rounds that are there"

    @pytest.mark.parametrize("size", [1, 2])
    def test_an_instance_remembers_nothing(self, training: Training, size: int) -> None:
        """An instance that was just built does each round as one that did all rounds before.

        An instance is its options; another process has another one. Fix ``self.x = ...`` in ``start`` or ``round``:
        what is needed later is an array of the state. What only saves time may be kept, if it is made again where it
        is missing.
        """
        whole = training.but(size=size)
        told = whole.run()
        forgetful = whole.but(witness=lambda o: _Forgetful(o, whole.optimizer))
        again = dict(enumerate(forgetful.run()))
        assert_same(whole, told, forgetful, again, "with a new instance in each round")

    @pytest.mark.parametrize("size", [1, 2])
    def test_scratch_means_nothing_between_rounds(self, training: Training, size: int) -> None:
        """What ``w.scratch`` arrays hold at the beginning of a round changes nothing.

        Fix it: write before you read, and keep in the state what a later round needs.
        """
        whole = training.but(size=size)
        told = whole.run()
        spoiled = whole.but(witness=Spoiled)
        again = dict(enumerate(spoiled.run()))
        assert_same(whole, told, spoiled, again, "with other scratch memory")


class _FillWatch(Witness):
    def __init__(self, optimizer: Optimizer, shares: Sequence[Share]) -> None:
        super().__init__(optimizer)
        self._shares = shares

    def fill(self, x: Arrays, do: Callable[[], None]) -> None:
        before = self._others(x)
        super().fill(x, do)
        written = ", ".join(differing(before, self._others(x)))
        assert not written, f"fill has written {written}"

    def _others(self, x: Arrays) -> dict[str, bytes]:
        """The bytes of all that is not the collective's."""
        s = self.state
        state = {} if s is None else {"params": s.params, **s.shared, **s.private}
        content = {
            f"{name} of the state": array.tobytes()
            for name, array in state.items()
            if not any(np.shares_memory(array, mine) for mine in x.values())
        }
        for rank, share in enumerate(self._shares):
            content |= {f"{name} of rank {rank}'s rows": data for name, data in share.content().items()}
        return content


class _ReadWatch(Witness):
    """Counts how often rounds ask for rows."""

    def __init__(self, optimizer: Optimizer, share: Share) -> None:
        super().__init__(optimizer)
        self.reads = 0
        self._share = share

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        before = self._share.reads
        figures = super().round(w, s)
        self.reads += self._share.reads - before
        return figures


class _Forgetful(Witness):
    """Each round is done by an instance of its own, on a model of its own."""

    def __init__(self, optimizer: Optimizer, built: Optimizer) -> None:
        super().__init__(optimizer)
        self._built = built

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        self.optimizer = fresh(self._built)
        return super().round(w._replace(model=fresh(w.model)), s)


def _starts(told: Told) -> list[Checkpoint | None]:
    return [None, *told.notebook.boundaries]


def _cuts(collectives: int, aggregators: int) -> range:
    """How many results are there: every number, or of many a dozen, others for each number of aggregators."""
    step = -(-collectives // 12)
    return range((aggregators - 1) % step, collectives + 1, step)


def _prefix(channel: FullStorage, cut: int) -> FullStorage:
    """A channel with the results of the first ``cut`` collectives, and some chunks of the next."""
    before = fresh_channel()
    for (number, chunk), (key, value) in results(channel).items():
        if number < cut or (number == cut and chunk % 2):
            before.put(key, [value])
    return before


def _stored(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """What comes back of one checkpoint from a store, on each rank."""
    store = open_storage(f"memory://stored-{uuid.uuid4()}")
    size = len(checkpoints)
    for rank, checkpoint in enumerate(checkpoints):
        Checkpoints(store, generation=0, rank=rank, size=size, base=None).save(checkpoint)
    back = [Checkpoints(store, generation=0, rank=rank, size=size, base=None).newest() for rank in range(size)]
    assert all(back)
    return [checkpoint for checkpoint in back if checkpoint is not None]
