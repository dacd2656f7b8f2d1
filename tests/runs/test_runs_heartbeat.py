"""Signs of life: a worker's own, what it learns with them, and those that it looks for while it waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.data.base import Batch
from lambdaml_core.errors import ResultLost, RunCancelled, StorageUnavailable
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import beat_key, cancel_key, claim_key, end_key, generation_key
from lambdaml_core.run.spec import get_json, put_json
from lambdaml_core.run.worker.heartbeat import CheckedData, Heart, Signs
from lambdaml_core.run.worker.leaving import Superseded
from lambdaml_core.storage import open_storage

REF = WorkerRef(store="", storage={}, run="r", generation=2, rank=1, attempt=4, spec_sha256="")


@pytest.fixture
def store() -> Any:
    store = open_storage("memory://heartbeat")
    store.delete(list(store.list("")))
    return store


def heart_of(store: Any, *, period_s: float = 60.0, **keys: Any) -> Heart:
    return Heart(store, REF, period_s=period_s, state=lambda: {"round": 3}, **keys)


def test_beats_rise(store: Any) -> None:
    heart = heart_of(store)
    for number in (1, 2):
        heart.beat()
        beat = get_json(store, beat_key(2, 1))
        assert (beat["attempt"], beat["beat"], beat["round"]) == (4, number, 3)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (cancel_key(2), RunCancelled),
        (claim_key(2, 1, 5), Superseded),
        (generation_key(3), Superseded),
    ],
)
def test_what_ends_a_worker(store: Any, key: str, error: type[Exception]) -> None:
    """It is told where the work goes on, and the beat of a newer attempt is not written over."""
    heart = heart_of(store)
    heart.beat()
    heart.check()
    put_json(store, key, {})
    put_json(store, beat_key(2, 1), {"attempt": 5, "beat": 1})
    with pytest.raises(error):
        heart.beat()
    with pytest.raises(error):
        heart.check()
    assert get_json(store, beat_key(2, 1))["attempt"] == 5


@pytest.mark.parametrize("key", [cancel_key(1), claim_key(2, 0, 5), claim_key(2, 1, 6), generation_key(2)])
def test_what_is_no_concern_of_this_worker(store: Any, key: str) -> None:
    heart = heart_of(store)
    put_json(store, key, {})
    heart.beat()
    heart.check()


def test_a_thread_is_asked_to_stop(store: Any) -> None:
    stop = threading.Event()
    heart = heart_of(store, stop=stop)
    heart.check()
    stop.set()
    with pytest.raises(RunCancelled):
        heart.check()


class Flaky:
    """A storage that is not there at first, and says when it has been used since."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._failures = 3
        self.used = threading.Event()

    def get_many(self, keys: Any) -> Any:
        self._failures -= 1
        if self._failures >= 0:
            raise StorageUnavailable("not now")
        return self._inner.get_many(keys)

    def put(self, *arguments: Any, **keys: Any) -> bool:
        stored: bool = self._inner.put(*arguments, **keys)
        self.used.set()
        return stored


def test_the_thread_goes_on_beating_whatever_the_store_does(store: Any) -> None:
    flaky: Any = Flaky(store)
    with heart_of(flaky, period_s=1e-3) as heart:
        assert flaky.used.wait(60)
        heart.check()
    assert get_json(store, beat_key(2, 1))["beat"] >= 1


def test_a_worker_that_hangs_falls_silent_until_it_goes_on(store: Any) -> None:
    """Beats of the heart's own thread say that the other one works."""
    turns = threading.Semaphore(0)

    class Counting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            turns.release()
            return super().wait(timeout)

    def take_turns() -> None:
        for _ in range(5):
            assert turns.acquire(timeout=60)

    heart = heart_of(store, period_s=1e-3, longest_step_s=1e-9)
    heart._leave = Counting()
    with heart:
        take_turns()
        assert beat_key(2, 1) not in store.list("")
        heart._longest_step_s = 3600.0  # as if it had been asked
        while turns.acquire(blocking=False):
            pass  # those of before
        take_turns()
    assert get_json(store, beat_key(2, 1))["beat"] >= 1


def test_a_heart_that_stops_beats_no_more(store: Any) -> None:
    with heart_of(store, period_s=1e-3) as heart:
        heart.beat()
        heart.stop()
        beats = get_json(store, beat_key(2, 1))["beat"]
        assert not heart._thread.is_alive()
    assert get_json(store, beat_key(2, 1))["beat"] == beats


# --- those of others ----------------------------------------------------------------------------------------------


class World:
    """Another rank, and the time."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.now = 1000.0
        self.signs = Signs(store, 2, now=lambda: self.now)

    def beat(self, attempt: int, beat: int, sequence: int = 0) -> None:
        put_json(self.store, beat_key(2, 0), {"attempt": attempt, "beat": beat, "sequence": sequence})

    def age(self, sequence: int = 10) -> float:
        return self.signs([0], sequence)[0]


def test_the_age_of_a_sign_of_life(store: Any) -> None:
    """By the own clock, since it was seen to rise."""
    world = World(store)
    world.now += 5
    assert world.age() == 5  # nothing since this worker has begun
    world.beat(0, 7)
    assert world.age() == 0
    world.now += 3
    assert world.age() == 3
    world.beat(0, 8)
    assert world.age() == 0
    world.now += 2
    world.beat(0, 5)  # late, of a moment before
    assert world.age() == 2
    put_json(store, claim_key(2, 0, 1), {})
    assert world.age() == 0  # another attempt has begun, and has not beaten yet
    world.now += 1
    assert world.age() == 1
    world.beat(0, 9)  # the old one wakes
    assert world.age() == 1
    world.beat(1, 1)
    assert world.age() == 0


def test_several_ranks(store: Any) -> None:
    world = World(store)
    world.beat(0, 1)
    world.now += 4
    assert world.signs([0, 2], 10) == {0: 0, 2: 4}


def test_that_all_wait_is_noticed(store: Any) -> None:
    """Alive they are, and each has sent its part: the channel loses it as often as they bring it back."""
    signs = Signs(store, 2, others=[1, 2])

    def beat(rank: int, waiting: bool = True, sequence: int = 10) -> None:
        values = {"attempt": 0, "beat": 1, "sequence": sequence, "waiting": waiting}
        put_json(store, beat_key(2, rank), values)

    def look(times: int, sequence: int = 10) -> None:
        for _ in range(times):
            signs([1], sequence)

    beat(1)
    look(20)  # rank 2 has yet to start
    beat(2, waiting=False)
    look(20)  # it computes
    beat(2, sequence=9)
    look(20)  # it waits in another collective
    beat(2)
    look(5)
    beat(2, waiting=False)
    look(1)
    beat(2)
    look(5)  # not so often in a row
    beat(1, sequence=11)
    beat(2, sequence=11)
    look(5, 11)
    with pytest.raises(ResultLost, match="all workers wait for messages of collective 10") as lost:
        look(1, 11)
    assert "memory" in str(lost.value.hint)
    Signs(store, 2)([1], 11)  # it is enough that one of the run looks


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["claim", "beat", "pass"]), st.integers(0, 3), st.integers(1, 3)), max_size=30
    )
)
def test_only_what_is_newer_is_a_sign(events: list[tuple[str, int, int]]) -> None:
    """Against a model: the age is the time since the greatest (attempt, beat) was seen first."""
    store = open_storage("memory://heartbeat")
    store.delete(list(store.list("")))
    world = World(store)
    newest, since, claimed = (-1, 0), world.now, -1
    for what, attempt, beat in events:
        world.now += 1
        seen = newest
        if what == "claim" and attempt == claimed + 1:  # attempts are claimed one after the other
            claimed = attempt
            put_json(store, claim_key(2, 0, attempt), {})
            seen = (attempt, 0)
        elif what == "beat" and attempt <= claimed:
            world.beat(attempt, beat)
            seen = (attempt, beat)
        if seen > newest:
            newest, since = seen, world.now
        assert world.age() == world.now - since


def test_a_rank_that_is_past_this_collective(store: Any) -> None:
    """Whoever waits in number 9 says that its next is 10; of who is in 9 too, that is the next one as well."""
    world = World(store)
    world.beat(0, 1, sequence=10)
    world.age(10)
    world.beat(0, 2, sequence=11)
    with pytest.raises(ResultLost, match="rank 0 has finished collective 9, and its result is nowhere") as caught:
        world.age(10)
    assert "retain_bytes" in str(caught.value.hint)


def test_a_rank_that_has_ended_is_past_all(store: Any) -> None:
    world = World(store)
    world.beat(0, 1, sequence=10)
    put_json(store, end_key(2, 0), {})
    with pytest.raises(ResultLost):
        world.age(10)


# --- between local steps ------------------------------------------------------------------------------------------


class Rows:
    rows, features, classes, steps_per_epoch = 5, 3, 2, 4

    def batch(self, step: int) -> Batch:
        return Batch(None, step, 1)  # type: ignore[arg-type]

    def blocks(self) -> Iterator[Batch]:
        yield from map(self.batch, range(3))


def test_rows_are_left_between_batches() -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 4:
            raise Superseded("elsewhere")

    data = CheckedData(Rows(), check)
    assert (data.rows, data.features, data.classes, data.steps_per_epoch) == (5, 3, 2, 4)
    assert data.batch(2) == Rows().batch(2)
    blocks = data.blocks()
    assert [next(blocks), next(blocks)] == [Rows().batch(0), Rows().batch(1)]
    with pytest.raises(Superseded):
        next(blocks)
