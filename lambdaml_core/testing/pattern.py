"""The laws of a communicator pattern. They tell its author whether collectives can rely on it, and what to fix.

A complete test file::

    class TestMyPattern(PatternLaws):
        @pytest.fixture
        def pattern(self):
            return my_pattern

The first laws look at what the pattern says of one chunk; the others run it, for every number of ranks and
aggregators, in virtual time and under crashes and duplicates (see ``lambdaml_core.testing.explorer``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lambdaml_core.comm.base import Call, Effect, Fold, Get, Pattern, Put
from lambdaml_core.comm.keys import make_key
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import Requests
from lambdaml_core.comm.simulator import simulate
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.testing.base import Laws
from lambdaml_core.testing.explorer import explore, run_scenario
from lambdaml_core.testing.explorer.scenario import Scenario, Step

__all__ = ["PatternLaws"]

_SIZES = range(1, 6)
_TOLD = [(size, chunk) for size in (*_SIZES, 8) for chunk in (0, 3)]
_FREE = StorageCaps(scope="process", creates_once=True, blocks=True)


@dataclass
class Told:
    """What all ranks say of one chunk.

    Attributes:
        named: every key that ``call.key`` or ``call.result`` gave out.
        puts, folds, gets: by rank.
        last: by rank, its last effect; None where there is none.
    """

    size: int
    owner: int
    result: str
    named: set[str] = field(default_factory=set)
    puts: dict[int, list[str]] = field(default_factory=dict)
    folds: dict[int, list[Fold]] = field(default_factory=dict)
    gets: dict[int, list[str]] = field(default_factory=dict)
    last: dict[int, Effect | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.size} ranks, owner {self.owner}"


class PatternLaws(Laws):
    """All laws of a pattern for all-reduce. Override the fixture ``pattern``; ``schedules`` to look further."""

    schedules = 100

    @pytest.fixture
    def pattern(self) -> Pattern:
        """The pattern."""
        raise NotImplementedError("override the fixture `pattern`")

    # --- what it says

    def test_it_says_the_same_each_time(self, pattern: Pattern) -> None:
        """A pattern is a function of its call: no state, no clock, no chance, and nothing of what effects answer.

        A replacement runs it again and must do what the first process did. Fix what it depends on.
        """
        for size, chunk in _TOLD:
            for rank in range(size):
                call = _call(rank, size, chunk, owner=size - 1, named=set())
                assert repr(list(pattern(call))) == repr(list(pattern(call)))  # as tuples, Put and Get are equal

    def test_keys_come_from_the_call(self, pattern: Pattern) -> None:
        """Every key is ``call.result`` or what ``call.key`` returns, unchanged.

        These are different for every run, generation, collective and chunk; a key made by hand meets itself again in
        the next round. Fix it: ``call.key("name", number)``.
        """
        for told in _tell(pattern):
            used = {key for lists in (told.puts, told.gets) for keys in lists.values() for key in keys}
            used |= {key for folds in told.folds.values() for fold in folds for key in fold.sources if key is not None}
            assert used <= told.named, f"{told}: {sorted(used - told.named)[0]} was made by hand"

    def test_every_value_has_one_maker(self, pattern: Pattern) -> None:
        """No two ranks put under one key, and no rank puts twice under one.

        Values are created once: of two, one is lost. Fix it by making the rank a part of the key.
        """
        for told in _tell(pattern):
            puts = [key for keys in told.puts.values() for key in keys]
            assert len(puts) == len(set(puts)), f"{told}: a key is put twice, of {sorted(puts)}"

    def test_everything_that_is_read_is_put(self, pattern: Pattern) -> None:
        """Somebody puts each value that somebody gets or folds, and the result is among them.

        Else the wait ends with its deadline. Fix the rank that should put it.
        """
        for told in _tell(pattern):
            puts = {key for keys in told.puts.values() for key in keys}
            read = {key for keys in told.gets.values() for key in keys} | _sources(told)
            assert read <= puts, f"{told}: nobody puts {sorted(read - puts)[0]}"
            assert told.result in puts, f"{told}: nobody puts the result"

    def test_everything_that_is_put_can_be_deleted(self, pattern: Pattern) -> None:
        """Each value is the result or folded by the owner, which deletes it once the result is stored.

        Of others nobody knows when everyone has read them: they would stay. Fix it by folding them, or not at all.
        """
        for told in _tell(pattern):
            known = _sources(told, told.owner) | {told.result}
            left = {key for keys in told.puts.values() for key in keys} - known
            assert not left, f"{told}: nobody deletes {sorted(left)[0]}"

    def test_a_fold_takes_each_rank_once_in_order(self, pattern: Pattern) -> None:
        """Source number r of a fold is what rank r puts, and None for the rank that folds.

        Floating-point sums depend on their order: this one makes all patterns, and a plain loop, agree in every bit.
        Partial sums are no sources: they would be rounded on the way. Fix the list of sources.
        """
        for told in _tell(pattern):
            for rank, folds in told.folds.items():
                for fold in folds:
                    assert len(fold.sources) == told.size, f"{told}: rank {rank} folds {len(fold.sources)} values"
                    for source, key in enumerate(fold.sources):
                        right = key is None if source == rank else key in told.puts.get(source, [])
                        assert right, f"{told}: rank {rank} folds {key} as the contribution of rank {source}"

    def test_everybody_gets_the_result_last(self, pattern: Pattern) -> None:
        """The last effect of every rank, the owner too, is to get the result.

        Of two processes of one rank that both fold, one finds that the result is there: what is stored counts for
        both. Fix it: end with ``Get(call.result)``.
        """
        for told in _tell(pattern):
            for rank, last in told.last.items():
                assert repr(last) == repr(Get(told.result)), f"{told}: rank {rank} ends with {last}"

    # --- what it does

    @pytest.mark.parametrize("size", _SIZES)
    def test_numbers_are_those_of_a_plain_loop(self, pattern: Pattern, size: int) -> None:
        """All ranks end with the bytes of a loop over ranks: sums, minima, maxima, floats and integers, all chunks.

        Fix who folds what, and what it puts when: a put is of the value that the chunk has at that moment.
        """
        steps = tuple(Step("all_reduce", ops=ops, fills=bool(ops % 2)) for ops in (0, 1, 2, 0))
        for aggregators in range(1, size + 1):
            for chunk_bytes in (64, 128, 1 << 20):
                run_scenario(
                    Scenario(
                        size=size,
                        aggregators=aggregators,
                        steps=steps,
                        every=None,
                        chunk_bytes=chunk_bytes,
                        window_bytes=128,
                        watch=True,
                        faults=(),
                        order=(),
                    ),
                    pattern,
                )

    @pytest.mark.parametrize("aggregators", [1, 2, 3, 4])
    def test_laws_hold_under_crashes_and_duplicates(self, pattern: Pattern, aggregators: int) -> None:
        """Whoever crashes or runs twice, in whatever order: it ends, with the same numbers, and leaves nothing.

        The failure says which law of ``explorer.LAWS`` is broken, in which schedule, and what to fix.
        """
        explore(range(self.schedules), aggregators, pattern=pattern)

    @pytest.mark.parametrize("aggregators", [1, 2, 4])
    def test_requests_can_be_told_beforehand(self, pattern: Pattern, aggregators: int) -> None:
        """A run makes the requests that the pattern says: one per put, one per value folded or got from another rank.

        Costs are told from them before a run. Fix effects that depend on anything but the call.
        """
        size, chunks = 4, 8
        told = [_told(pattern, size, chunk, chunk % aggregators) for chunk in range(chunks)]
        puts = sum(len(keys) for one in told for keys in one.puts.values())
        gets = sum(
            sum(key is not None for fold in one.folds.get(rank, []) for key in fold.sources)
            + sum(key not in one.puts.get(rank, []) for key in one.gets.get(rank, []))
            for one in told
            for rank in range(size)
        )

        def program(planner: Planner) -> Requests:
            x = {"g": np.ones(16 * chunks, np.float32)}
            yield from planner.all_reduce(x).run(None)

        counts = simulate(program, _FREE, size=size, aggregators=aggregators, pattern=pattern, chunk_bytes=64).counts
        assert (counts.put, counts.get) == (puts, gets)


def _call(rank: int, size: int, chunk: int, owner: int, named: set[str]) -> Call:
    def key(*parts: Any) -> str:
        made = make_key(0, 7, chunk, owner, *parts)
        named.add(made)
        return made

    return Call(rank, size, chunk, owner, key, key())


def _told(pattern: Pattern, size: int, chunk: int, owner: int) -> Told:
    told = Told(size, owner, make_key(0, 7, chunk, owner))
    for rank in range(size):
        effects: list[Effect] = list(pattern(_call(rank, size, chunk, owner, told.named)))
        told.puts[rank] = [effect.key for effect in effects if isinstance(effect, Put)]
        told.gets[rank] = [effect.key for effect in effects if isinstance(effect, Get)]
        told.last[rank] = effects[-1] if effects else None
        told.folds[rank] = [effect for effect in effects if isinstance(effect, Fold)]
    return told


def _tell(pattern: Pattern) -> Iterator[Told]:
    for size, chunk in _TOLD:
        for owner in range(size):
            yield _told(pattern, size, chunk, owner)


def _sources(told: Told, *ranks: int) -> set[str]:
    """What these ranks fold; all, if none are given."""
    folds = [fold for rank in ranks or range(told.size) for fold in told.folds[rank]]
    return {key for fold in folds for key in fold.sources if key is not None}
