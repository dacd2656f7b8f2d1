"""When a worker must leave, by a clock that only the test moves, and what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import LaunchFailed, RunError
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import handover_key
from lambdaml_core.run.spec import get_json
from lambdaml_core.run.worker.leaving import Moment, TimeUp
from lambdaml_core.run.worker.succession import TimeLimit, hand_over
from lambdaml_core.storage import open_storage


class World:
    """A time limit, and the time."""

    def __init__(self, limit_s: float) -> None:
        self.now = self.waited_s = 0.0
        self.limit = TimeLimit(limit_s, lambda: self.now)
        self.limit.begin(0.0)

    def leaves_after(self, seconds: float, waited_s: float = 0.0) -> bool:
        """Whether it leaves after a round that took so long, part of it waiting."""
        self.now += seconds
        self.waited_s += waited_s
        return self.limit.leaves_no_round(self.waited_s)

    def is_up(self, moment: Moment = "wait") -> bool:
        try:
            self.limit.check(moment)
        except TimeUp as e:
            return e.moment == moment
        return False


@pytest.mark.parametrize(("limit_s", "margin_s"), [(5.0, 0.5), (25.0, 0.5), (900.0, 18.0)])
def test_a_wait_ends_while_there_is_time_to_hand_over(limit_s: float, margin_s: float) -> None:
    world = World(limit_s)
    world.now = limit_s - margin_s - 1e-6
    assert not world.is_up()
    assert world.limit.remaining_s() == pytest.approx(margin_s, abs=1e-5)
    world.now += 2e-6
    assert world.is_up()
    assert world.is_up("work")
    world.now += limit_s
    assert world.limit.remaining_s() == 0


def test_there_may_be_no_limit() -> None:
    world = World(math.inf)
    assert not world.leaves_after(1e9)
    assert not world.is_up()
    assert world.limit.remaining_s() is None


def test_a_worker_leaves_with_less_than_two_rounds_left() -> None:
    """The longest counts: others may follow."""
    world = World(100.5 / 0.98)  # so that 100 s and some are for rounds
    assert not world.leaves_after(20)
    while world.now < 59:
        assert not world.leaves_after(1)
    assert world.leaves_after(2)


def test_work_counts_and_waits_do_not() -> None:
    waited, worked = World(1000), World(1000)
    assert not waited.leaves_after(400, 390)
    assert worked.leaves_after(400)
    assert not waited.leaves_after(560, 550)
    assert waited.leaves_after(1)


@given(limit_s=st.floats(1, 1e4), rounds=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=30))
def test_whoever_stays_can_do_a_round_as_long_as_the_longest(
    limit_s: float, rounds: Sequence[tuple[float, float]]
) -> None:
    """Without waits; and whoever leaves could not have done two."""
    world = World(limit_s)
    longest = 0.0
    for seconds, share in rounds:
        longest = max(longest, seconds * (1 - share))
        if world.is_up():
            return
        if world.leaves_after(seconds, seconds * share):
            world.now += 2 * longest + 1e-6
            assert world.is_up()
            return
        world.now += longest * 0.999999 - 1e-6
        assert not world.is_up()
        world.now -= longest * 0.999999 - 1e-6


# --- handing over -------------------------------------------------------------------------------------------------


class Launches:
    """A launcher that fails so often."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.started: list[WorkerRef] = []

    def launch(self, ref: WorkerRef) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError("no process is left")
        self.started.append(ref)
        return "x"

    def handle(self) -> str:
        return "x"

    def remaining_s(self) -> float:
        return 1.0


@pytest.fixture
def store() -> Any:
    store = open_storage("memory://succession")
    store.delete(list(store.list("")))
    return store


def ref_of(attempt: int) -> WorkerRef:
    return WorkerRef(store="s", storage={}, run="r", generation=1, rank=2, attempt=attempt, spec_sha256="0")


def leave(store: Any, attempt: int, round: int, moment: Moment) -> bool:
    """Hand over. Returns whether it was recorded as progress."""
    launches = Launches()
    hand_over(store, ref_of(attempt), launches, round=round, moment=moment)
    assert launches.started == [ref_of(attempt + 1)]
    record = get_json(store, handover_key(1, 2, attempt))
    assert record["round"] == round
    return bool(record["progress"])


def test_two_in_a_row_that_got_nowhere_are_the_end(store: Any) -> None:
    assert leave(store, 0, 3, "work")
    assert not leave(store, 1, 3, "work")
    with pytest.raises(RunError, match="two processes in a row reached their time limit in round 4") as caught:
        hand_over(store, ref_of(2), Launches(), round=3, moment="work")
    assert "fewer local steps" in str(caught.value.hint)


@pytest.mark.parametrize(("round", "moment"), [(4, "work"), (3, "wait"), (2, "boundary")])
def test_what_is_progress(store: Any, round: int, moment: Moment) -> None:
    """A further round; having had to wait; a state that was saved."""
    leave(store, 0, 3, "work")
    assert not leave(store, 1, 3, "work")
    assert leave(store, 2, round, moment)
    assert not leave(store, 3, round, "work")


def test_a_launch_is_tried_again(store: Any) -> None:
    launches = Launches(failures=2)
    hand_over(store, ref_of(0), launches, round=1, moment="wait")
    assert launches.started == [ref_of(1)]


def test_a_successor_that_cannot_be_started(store: Any) -> None:
    with pytest.raises(LaunchFailed, match="the successor of worker 2 could not be started: no process is left"):
        hand_over(store, ref_of(0), Launches(failures=9), round=1, moment="wait")
