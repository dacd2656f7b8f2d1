"""Ranks that save, fail, are killed and replaced in any order, beside a model of what they promise each other.

Results of collectives are deleted once all ranks have advanced past them. So whatever happens, and even if any one part
of a checkpoint is damaged then, every replacement finds a checkpoint that needs none of what is deleted, and so does a
new generation.
"""

from __future__ import annotations

from typing import Any

from checkpoint_states import PER_ROUND, Mortal, checkpoint, new_store, ranks, same, tear
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lambdaml_core.errors import ResultLost, StorageUnavailable
from lambdaml_core.run.records.attempts import Base
from lambdaml_core.run.records.checkpoints import newest_complete
from lambdaml_core.run.spec import Checkpointing
from lambdaml_core.run.worker.saver import Saver

which_rank = st.integers(0, 2)


class Runs(RuleBasedStateMachine):
    """A checkpoint is made after every round."""

    @initialize(size=st.integers(1, 3), private=st.booleans())
    def begin(self, size: int, private: bool) -> None:
        self.store, self.size, self.private = new_store(), size, private
        self.generation = 0
        self.base: Base | None = None
        self.start()

    def start(self) -> None:
        """All ranks of a generation."""
        first = 0 if self.base is None else self.base["round"]
        self.deleted = PER_ROUND * first  # results of this generation with a lower number are deleted, or never were
        self.frontiers = [0] * self.size
        self.furthest = [first] * self.size  # rounds that the rank has ever done: its contributions to them are there
        self.rounds = [first] * self.size
        self.stores: list[Mortal] = [Mortal(self.store)] * self.size
        self.savers: list[Saver] = []
        for rank in range(self.size):
            self.savers.append(self.attempt(rank))

    def attempt(self, rank: int) -> Saver:
        """A new attempt of a rank, which goes on from what it finds."""
        self.stores[rank] = Mortal(self.store)
        checkpoints = ranks(self.stores[rank], self.size, generation=self.generation, base=self.base)[rank]
        found = checkpoints.newest()
        assert found is not None or self.base is None
        self.rounds[rank] = found.round if found is not None else 0
        assert same(found, self.state(rank) if found is not None else None)
        assert PER_ROUND * self.rounds[rank] >= self.deleted

        def advance(sequence: int) -> None:
            self.frontiers[rank] = sequence
            self.deleted = max(self.deleted, min(self.frontiers))
            checkpoints.remove_before(min(self.frontiers))

        return Saver(
            checkpoints,
            Checkpointing(),
            retained=lambda: 0,
            advance=advance,
            restored=found,
        )

    def state(self, rank: int) -> Any:
        return checkpoint(self.rounds[rank], rank, private=self.private)

    @rule(rank=which_rank, lives=st.none() | st.integers(0, 5), fails=st.integers(0, 1))
    def work(self, rank: int, lives: int | None, fails: int) -> None:
        """A round, if the others' contributions to it are there, and its checkpoint."""
        rank %= self.size
        if any(furthest < self.rounds[rank] for furthest in self.furthest):
            return
        self.rounds[rank] += 1
        self.furthest[rank] = max(self.furthest[rank], self.rounds[rank])
        self.stores[rank].lives, self.stores[rank].fails = lives, fails
        self.save(rank)
        if self.stores[rank].lives is not None:
            self.savers[rank] = self.attempt(rank)

    def save(self, rank: int) -> None:
        """In its thread, which has ended when this returns; a third failure in a row ends the attempt."""
        try:
            self.savers[rank].save(self.state(rank))
        except StorageUnavailable:
            self.stores[rank].lives = 0
        self.savers[rank].close()

    @rule(rank=which_rank)
    def hand_over(self, rank: int) -> None:
        """The successor goes on from the very round, as long as it is there."""
        rank %= self.size
        round = self.rounds[rank]
        checkpoints = ranks(self.store, self.size, generation=self.generation, base=self.base)[rank]
        checkpoints.hand_over(self.state(rank))
        self.savers[rank] = self.attempt(rank)
        assert self.rounds[rank] >= round

    @rule(which=st.integers(0, 99), how=st.integers(0, 9999))
    def damage(self, which: int, how: int) -> None:
        """Any one file: every rank, and a new generation, finds what is not deleted; then it is as it was."""
        keys = list(self.store.list(""))
        if not keys:
            return
        key = keys[which % len(keys)]
        data = bytes(self.store.get(key))
        tear(self.store, key, how)
        for rank in range(self.size):
            try:
                found = ranks(self.store, self.size, generation=self.generation, base=self.base)[rank].newest()
            except ResultLost:
                assert self.deleted == PER_ROUND * (self.base or {"round": 0})["round"]  # a new generation repairs it
                continue
            assert (found.sequence if found else 0) >= self.deleted
            assert found is None or same(found, checkpoint(found.round, rank, private=self.private))
        self.store.put(key, [data])

    @rule(how=st.integers(0, 9999), torn=st.booleans())
    def new_generation(self, how: int, torn: bool) -> None:
        """All processes are ended, and all start from the newest whole checkpoint, where one file may be damaged."""
        keys = list(self.store.list(""))
        whole = newest_complete(self.store, self.generation, self.size)
        if torn and keys:
            tear(self.store, keys[-1], how)
        base = newest_complete(self.store, self.generation, self.size)
        if self.deleted > PER_ROUND * (self.base or {"round": 0})["round"]:
            assert whole is not None
            assert base is not None
            assert PER_ROUND * base["round"] >= self.deleted
        self.generation, self.base = self.generation + 1, base
        self.start()

    @invariant()
    def no_more_is_kept_than_is_needed(self) -> None:
        """Two checkpoints, those that ranks have not passed together, and one that is being written."""
        if not hasattr(self, "store"):
            return
        for rank in range(self.size):
            rounds = {key.split("/")[2] for key in self.store.list("") if f"private-{rank}." in key}
            spread = max(self.furthest) - self.deleted // PER_ROUND
            assert len(rounds) <= spread + 3


TestRuns = Runs.TestCase
TestRuns.settings = settings(stateful_step_count=40)
