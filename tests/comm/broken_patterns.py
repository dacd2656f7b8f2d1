"""Patterns that break one law each; ``test_comm_pattern_kit.py`` runs them."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from typing import ClassVar, TypeAlias

from lambdaml_core.comm.base import Call, Effect, Fold, Get, Put
from lambdaml_core.comm.patterns import aggregate

Effects: TypeAlias = Generator[Effect, None, None]


class Broken:
    """A pattern that is wrong.

    Attributes:
        law: that must fail.
        explored: the law by which the explorer calls it, where it comes to run.
        mistake: of an earlier system, where it is one, in a few words.
    """

    law: ClassVar[str]
    explored: ClassVar[str | None] = None
    mistake: ClassVar[str | None] = None

    @staticmethod
    def pattern(call: Call) -> Effects:
        raise NotImplementedError


def contributions(call: Call) -> Fold:
    """All inputs, in the order of ranks."""
    return Fold([None if rank == call.rank else call.key("in", rank) for rank in range(call.size)])


# --- what it says -----------------------------------------------------------------------------------------------


class DoesMoreEachTime(Broken):
    law = "test_it_says_the_same_each_time"
    turns: ClassVar[Iterator[int]] = itertools.count()

    @staticmethod
    def pattern(call: Call) -> Effects:
        for number in range(next(DoesMoreEachTime.turns) // 7):
            yield Put(call.key("more", call.rank, number))
        yield from aggregate(call)


class NamesKeysByHand(Broken):
    law = "test_keys_come_from_the_call"
    explored = "own_keys"
    mistake = "keys say nothing of run or round, and meet those of others"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(f"in/{call.chunk}/{call.rank}")
        else:
            yield Fold([None if rank == call.rank else f"in/{call.chunk}/{rank}" for rank in range(call.size)])
            yield Put(call.result)
        yield Get(call.result)


class TwoOwners(Broken):
    law = "test_every_value_has_one_maker"
    explored = "create_once"

    @staticmethod
    def pattern(call: Call) -> Effects:
        yield Put(call.key("in", call.rank))
        if call.rank in (call.owner, (call.owner + 1) % call.size):
            yield contributions(call)
            yield Put(call.result)
        yield Get(call.result)


class NamesNoRank(Broken):
    """As a list that everybody appends to, of which the owner takes as many as there are ranks."""

    law = "test_every_value_has_one_maker"
    mistake = "contributions are counted and not named"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in"))
        else:
            yield Fold([None if rank == call.rank else call.key("in") for rank in range(call.size)])
            yield Put(call.result)
        yield Get(call.result)


class LastWriterWins(Broken):
    law = "test_every_value_has_one_maker"
    explored = "create_once"
    mistake = "everybody writes to one place, and the work of all but one is lost"

    @staticmethod
    def pattern(call: Call) -> Effects:
        yield Put(call.result)
        yield Get(call.result)


class NobodyPutsTheResult(Broken):
    law = "test_everything_that_is_read_is_put"
    explored = "no_hang"
    mistake = "waits never end"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
        yield Get(call.result)


class WaitsForOneMore(Broken):
    """The owner waits for a rank that there is not: counted from 1."""

    law = "test_everything_that_is_read_is_put"
    explored = "no_hang"
    mistake = "waits never end"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank == call.owner:
            yield Get(call.key("in", call.size))
        yield from aggregate(call)


class LeavesCopies(Broken):
    """Every rank passes the result on, so that not all read one value; nobody deletes what is passed on."""

    law = "test_everything_that_is_put_can_be_deleted"
    explored = "no_key_left"

    @staticmethod
    def pattern(call: Call) -> Effects:
        yield from aggregate(call)
        yield Put(call.key("copy", call.rank))


class ForgetsTheLastRank(Broken):
    law = "test_a_fold_takes_each_rank_once_in_order"
    explored = "same_numbers"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
        else:
            yield Fold(contributions(call).sources[: max(call.owner + 1, call.size - 1)])
            yield Put(call.result)
        yield Get(call.result)


class FoldsItsOwnFirst(Broken):
    law = "test_a_fold_takes_each_rank_once_in_order"
    explored = "typed_errors"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
        else:
            yield Fold([None, *(source for source in contributions(call).sources if source is not None)])
            yield Put(call.result)
        yield Get(call.result)


class FoldsPartialSums(Broken):
    """A tree: each rank folds those below it, and passes the sum on."""

    law = "test_a_fold_takes_each_rank_once_in_order"

    @staticmethod
    def pattern(call: Call) -> Effects:
        place = (call.rank - call.owner) % call.size
        below = [(call.owner + p) % call.size for p in (2 * place + 1, 2 * place + 2) if p < call.size]
        yield Fold([None, *(call.key("in", rank) for rank in below)])
        yield Put(call.result if place == 0 else call.key("in", call.rank))
        yield Get(call.result)


class KeepsTheResultToItself(Broken):
    law = "test_everybody_gets_the_result_last"
    explored = "same_numbers"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
        else:
            yield contributions(call)
            yield Put(call.result)


class TrustsItself(Broken):
    """The owner has what it made, and does not look at what is stored, which a twin of its may have made first."""

    law = "test_everybody_gets_the_result_last"
    explored = "same_numbers"

    @staticmethod
    def pattern(call: Call) -> Effects:
        for effect in aggregate(call):
            if call.rank != call.owner or not isinstance(effect, Get):
                yield effect


# --- what it does -----------------------------------------------------------------------------------------------


class PutsBeforeItFolds(Broken):
    law = "test_numbers_are_those_of_a_plain_loop"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
        else:
            yield Put(call.result)
            yield contributions(call)
        yield Get(call.result)


class EverybodyWaitsFirst(Broken):
    law = "test_laws_hold_under_crashes_and_duplicates"
    explored = "no_hang"
    mistake = "workers wait for each other for ever"

    @staticmethod
    def pattern(call: Call) -> Effects:
        yield Get(call.key("in", (call.rank - 1) % call.size))
        yield Put(call.key("in", call.rank))
        if call.rank == call.owner:
            yield contributions(call)
            yield Put(call.result)
        yield Get(call.result)


class ReadsWhatMayBeGone(Broken):
    """Looks at what it has sent, to be sure; by then it may have been folded and deleted."""

    law = "test_laws_hold_under_crashes_and_duplicates"
    explored = "typed_errors"
    mistake = "what a slower worker has yet to read is deleted"

    @staticmethod
    def pattern(call: Call) -> Effects:
        if call.rank != call.owner:
            yield Put(call.key("in", call.rank))
            yield Get(call.key("in", call.rank))
        else:
            yield contributions(call)
            yield Put(call.result)
        yield Get(call.result)


class PutsMoreLater(Broken):
    """From the second look at a chunk on."""

    law = "test_requests_can_be_told_beforehand"
    calls: ClassVar[dict[int, int]] = {}

    @staticmethod
    def pattern(call: Call) -> Effects:
        turn = PutsMoreLater.calls[call.chunk] = PutsMoreLater.calls.get(call.chunk, 0) + 1
        if call.rank != call.owner and turn > 4:
            yield Put(call.key("again", call.rank))
        yield from aggregate(call)
