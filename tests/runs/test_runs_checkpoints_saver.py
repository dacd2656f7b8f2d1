"""Checkpoints beside training: when they are due, that they are copies, and what becomes of one that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checkpoint_states import PER_ROUND, Mortal, checkpoint, new_store, ranks, same

from lambdaml_core.errors import RunError, StorageUnavailable
from lambdaml_core.run.records.checkpoints import newest_complete
from lambdaml_core.run.spec import Checkpointing
from lambdaml_core.run.worker.saver import Saver
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.layers import FullStorage, Layer

NEVER = Checkpointing(rounds=None, seconds=None, retain_bytes=None)


def make(
    store: FullStorage,
    policy: Checkpointing = NEVER,
    *,
    rank: int = 0,
    size: int = 1,
    retained: Callable[[], int] = lambda: 0,
    advance: Callable[[int], None] = lambda sequence: None,
    **keys: Any,
) -> Saver:
    """A saver of an attempt that has just looked."""
    checkpoints = ranks(store, size)[rank]
    restored = checkpoints.newest()
    return Saver(checkpoints, policy, retained=retained, advance=advance, restored=restored, **keys)


def test_a_checkpoint_is_due_by_rounds_since_the_last_whoever_made_it() -> None:
    store = new_store()
    policy = Checkpointing(rounds=3, seconds=None)
    for first, expected in ((1, [3, 6]), (8, [9])):
        saver = make(store, policy)
        due = []
        for round in range(first, first + 7):
            if saver.due(round) and round < 10:
                due.append(round)
                saver.save(checkpoint(round))
        saver.close()
        assert due == expected
    assert not make(store, policy).due(11)
    assert make(store, policy).due(12)


def test_a_checkpoint_is_due_at_once_after_a_hand_over() -> None:
    """However short the time of each process is, what the others keep for replacements does not grow for ever."""
    store = new_store()
    ranks(store, 1)[0].hand_over(checkpoint(5))
    saver = make(store)
    assert saver.due(6)
    saver.save(checkpoint(6))
    assert not saver.due(7)
    saver.close()


def test_a_checkpoint_is_due_by_seconds_since_the_last() -> None:
    clock = [100.0]
    saver = make(new_store(), Checkpointing(rounds=None, seconds=10), now=lambda: clock[0])
    due = []
    for round in range(1, 9):
        clock[0] += 4
        if saver.due(round):
            due.append(round)
            saver.save(checkpoint(round))
    saver.close()
    assert due == [3, 6]


def test_a_checkpoint_is_due_when_half_of_the_bytes_are_retained_since_two_intervals_are() -> None:
    retained = [0]
    policy = Checkpointing(rounds=None, seconds=None, retain_bytes=100)
    saver = make(new_store(), policy, retained=lambda: retained[0])
    due = []
    for round in range(1, 9):
        retained[0] += 20
        if saver.due(round):
            due.append(round)
            saver.save(checkpoint(round))
    saver.close()
    assert due == [3, 6]


def test_nothing_is_due_where_nothing_says_so() -> None:
    assert not any(make(new_store(), retained=lambda: 1 << 40).due(round) for round in range(1, 100))


def test_a_checkpoint_is_of_the_moment_at_which_it_was_saved() -> None:
    """Training changes the arrays while they are written; the memory of a copy is used again for the next."""
    store, gate = new_store(), threading.Event()

    class Slow(Layer):
        def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
            gate.wait()
            return super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    saver = make(Slow(store))
    for round in (1, 2, 3):
        live = checkpoint(round, private=True)
        saver.save(live)
        live.state.params[:] = np.nan
        live.state.private["local"][:] = np.nan
        gate.set()
    saver.close()
    assert (saver.count, saver.bytes > 0) == (3, True)
    for _ in range(3):
        found = ranks(store, 1)[0].newest()
        assert found is not None
        assert same(found, checkpoint(found.round, private=True))
        store.delete(list(store.list(f"checkpoints/0/{found.round:09d}/")))
    assert not list(store.list(""))


def test_a_state_whose_arrays_change_shape_is_copied_too() -> None:
    store = new_store()
    saver = make(store)
    for round in range(1, 6):  # the losses since the last look are more and fewer
        saver.save(checkpoint(round))
        saver.close()
        assert same(ranks(store, 1)[0].newest(), checkpoint(round))


def test_two_checkpoints_are_written_before_what_came_before_them_is_given_up() -> None:
    store = new_store()
    told: list[int] = []
    saver = make(store, advance=told.append)
    for round in (1, 2, 3):
        saver.save(checkpoint(round))
        saver.close()
    assert told == [0, 0, PER_ROUND, 2 * PER_ROUND]
    later: list[int] = []
    saver = make(store, advance=later.append)
    saver.save(checkpoint(4))
    saver.close()
    assert later == [2 * PER_ROUND, 3 * PER_ROUND]


def test_a_rank_that_writes_nothing_advances_with_the_others() -> None:
    store = new_store()
    told: list[int] = []
    saver = make(store, rank=1, size=2, advance=told.append)
    for round in (1, 2, 3):
        saver.save(checkpoint(round, 1))
    assert told == [0, 0, PER_ROUND, 2 * PER_ROUND]
    assert (saver.count, saver.bytes, list(store.list(""))) == (0, 0, [])


def test_a_checkpoint_that_could_not_be_written_comes_before_the_next() -> None:
    """Ranks that each lack another checkpoint would have none together."""
    store = Mortal(new_store())
    told: list[int] = []
    saver = make(store, advance=told.append)
    for round, fails in ((1, 0), (2, 1), (3, 1), (4, 0)):
        store.fails = fails
        saver.save(checkpoint(round))
        saver.close()
        assert newest_complete(store, 0, 1) == {"generation": 0, "round": 4 if round == 4 else 1}
    assert saver.count == 4
    assert told == [0, 0, PER_ROUND, 2 * PER_ROUND, 3 * PER_ROUND]
    store.delete(list(store.list("checkpoints/0/000000004/")))
    assert same(ranks(store, 1)[0].newest(), checkpoint(3))


def test_what_must_not_be_behind_a_checkpoint_is_done_before_it_is_there() -> None:
    store = new_store()
    seen: list[tuple[bool, object]] = []

    def tell() -> None:
        seen.append((threading.current_thread() is threading.main_thread(), newest_complete(store, 0, 1)))
        if len(seen) == 2:
            raise StorageUnavailable("it could not be told")

    saver = make(store, before_write=tell)
    for round in (1, 2, 3):
        saver.save(checkpoint(round))
        saver.close()
    first, second = ({"generation": 0, "round": round} for round in (1, 2))
    assert seen == [(False, None), (False, first), (False, first), (False, second)]


def test_the_third_failure_in_a_row_is_raised() -> None:
    store = Mortal(new_store())
    saver = make(store)
    for fails in (1, 1, 0, 1, 1, 1):  # the fourth begins anew
        store.fails = fails
        saver.save(checkpoint(1))
        saver.close()
    with pytest.raises(StorageUnavailable, match="could not be stored"):
        saver.save(checkpoint(2))
    saver.close()


def test_an_error_that_is_none_of_the_store_is_raised_at_once() -> None:
    def advance(sequence: int) -> None:
        if sequence:
            raise ZeroDivisionError

    saver = make(new_store(), advance=advance)
    saver.save(checkpoint(1))
    saver.save(checkpoint(2))
    with pytest.raises(ZeroDivisionError):
        saver.save(checkpoint(3))
    saver.close()


def test_what_cannot_be_kept_is_refused_in_the_thread_that_trains() -> None:
    saver = make(new_store())
    bad = checkpoint(1)
    bad.state.shared["velocity"] = bad.state.shared["velocity"].astype(np.complex128)
    with pytest.raises(RunError, match="shared/velocity"):
        saver.save(bad)
    saver.close()


def test_seconds_are_those_that_training_was_held_up() -> None:
    ticks = iter(range(100))
    saver = make(new_store(), now=lambda: float(next(ticks)))
    saver.save(checkpoint(1))  # looks twice at the clock
    saver.save(checkpoint(2))
    saver.close()
    assert saver.seconds == 2.0
