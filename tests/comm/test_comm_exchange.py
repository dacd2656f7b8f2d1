"""Asynchronous slots under crashes and twins, request by request: no update is lost, and none counts twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from exchange_stage import SIZE, Act, Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_core.comm.slots import Slots
from lambdaml_core.errors import LambdaMLError

WORDS = ("publish", "publish", "merge", "start")


def acts(depth: int) -> st.SearchStrategy[Act]:
    """Something that happens, with what happens in the middle of it."""
    stops = st.none() | st.integers(0, 7)
    inner = st.none() | st.lists(acts(depth - 1), max_size=6) if depth else st.none() | st.just([])
    return st.builds(
        Act,
        st.sampled_from(WORDS),
        st.integers(0, SIZE - 1),
        st.integers(0, 2),
        stops,
        inner,
    )


def play(stage: Stage, script: Sequence[Act]) -> None:
    for act in script:
        stage.do(act)
    total = stage.finish()
    clocks = [process[-1].exchange.own.clock for process in stage.processes.values()]
    assert total[0] == sum(clocks), "each clock is one update"


@settings(max_examples=200, deadline=None)
@given(st.lists(acts(2), max_size=12))
def test_no_update_is_lost_and_none_counts_twice(script: Sequence[Act]) -> None:
    play(Stage(), script)


@settings(max_examples=60, deadline=None)
@given(st.lists(acts(2), max_size=12))
def test_where_nobody_can_list(script: Sequence[Act]) -> None:
    play(Stage(lists=False), script)


@settings(max_examples=25, deadline=None)
@given(st.lists(acts(1), max_size=8), st.integers(0, 1000))
def test_over_a_storage_with_faults(script: Sequence[Act], seed: int) -> None:
    """Answers are lost, and requests made twice."""
    url = f"fault+memory://{{name}}?fault_seed={seed}&fault_lost=0.1&fault_duplicate=0.1"
    play(Stage(url), script)


def go_on(rank: int, times: int) -> list[Act]:
    return [Act("publish", rank)] * times


@pytest.mark.parametrize("stop", range(4))
@pytest.mark.parametrize("behind", range(6))
def test_a_process_wakes_whose_clock_was_deleted(stop: int, behind: int) -> None:
    """It could create it again, and write a head that is behind."""
    stage = Stage()
    for act in go_on(1, 2):
        stage.do(act)
    stage.do(Act("publish", 1, 0, stop, [Act("start", 1), *go_on(1, behind)]))
    old, new = stage.processes[1]
    assert old.alive == (stop > 1), "whoever has learnt that it is the owner goes on, and fails the next time"
    stage.do(Act("publish", 1, 1))
    if behind:
        assert not old.alive
    for rank in (0, 2):
        assert stage.processes[rank][-1].merge()[1] in (0, new.exchange.own.clock, *stage.published[1])
    play(stage, [])


def test_an_old_head_blocks_nobody_who_is_new() -> None:
    """Its process is done, and so nobody puts it right."""
    stage = Stage()
    for act in go_on(1, 9):
        stage.do(act)
    channel = stage.open()
    channel.put("g0/x-1/head", [str(2 << 63).encode()])
    stage.do(Act("start", 0))
    reader = stage.processes[0][-1]
    assert reader.merge() == [0, 9, 0]
    channel.put("g0/x-1/head", [str(3 << 63).encode()])
    assert reader.merge() == [0, 9, 0]
    for what in (b"", b"-", b"1"):
        channel.put("g0/x-1/head", [what])
        stage.do(Act("start", 1))
        assert stage.processes[1][-1].exchange.own.clock == 9


def test_an_old_slot_is_deleted() -> None:
    stage = Stage()
    for act in [*go_on(0, 30), *go_on(1, 1), *go_on(2, 2)]:
        stage.do(act)
    slots = {"g0/x-0/29", "g0/x-0/30", "g0/x-1/1", "g0/x-2/1", "g0/x-2/2"}
    keys = set(stage.keys())
    assert keys == slots | {f"g0/x-{r}/{name}" for r in range(SIZE) for name in ("head", "owner")}
    for rank in range(SIZE):
        left = stage.processes[rank][-1].exchange.left()
        assert set(left) >= {key for key in keys if key.startswith(f"g0/x-{rank}/")}


WAKES = [*go_on(1, 2), Act("publish", 1, 0, 0, [Act("start", 1), *go_on(1, 5)])]
KILLED = [*go_on(1, 2), Act("publish", 1, 0, 2, None), Act("start", 1), *go_on(1, 1)]
PLANTED = [
    (Slots, "check_ownership", lambda slots, clock: None, WAKES, "two processes have published one clock"),
    (
        Slots,
        "search",
        lambda slots, rank, head, contents: slots.read({rank: [head]}, contents).get(rank),
        KILLED,
        "another process of rank 1 has published clock 3",
    ),
]


@pytest.mark.parametrize(("cls", "name", "broken", "script", "says"), PLANTED)
def test_what_is_broken_is_noticed(
    monkeypatch: pytest.MonkeyPatch, cls: type, name: str, broken: Any, script: Sequence[Act], says: str
) -> None:
    play(Stage(), script)
    monkeypatch.setattr(cls, name, broken)
    with pytest.raises((AssertionError, LambdaMLError), match=says):
        play(Stage(), script)
