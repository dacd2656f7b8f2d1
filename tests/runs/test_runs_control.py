"""What rank 0 decides reaches all ranks with the rounds' messages, which it does not change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.comm.engine import Engine
from lambdaml_core.run.worker.control import ControlledCommunicator, Decision
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.layers import Count, Counts
from lambdaml_core.testing.threads import together

GO_ON = Decision(time_up=False, checkpoint=False)
decisions = st.builds(Decision, st.booleans(), st.booleans())
ops = st.sampled_from(["sum", "min", "max", {}, {"a": "min"}, {"a": "max", "b": "sum"}])


def values(dtype: Any, size: int, rank: int, round: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng([rank, round])
    return {"a": (rng.standard_normal(size) * 50).astype(dtype), "b": rng.integers(0, 99, 3)}


def on_ranks(size: int, work: Callable[[Engine], Any], **settings: Any) -> list[Any]:
    """``work(engine)`` of all ranks, on one channel."""
    url = f"memory://control-{uuid.uuid4()}"
    engines = [Engine(open_storage(url), rank=rank, size=size, **settings) for rank in range(size)]
    return together(*(lambda engine=engine: work(engine) for engine in engines), limit_s=60)


@settings(max_examples=settings().max_examples // 2)
@given(
    size=st.integers(1, 4),
    aggregators=st.integers(1, 4),
    chunk_bytes=st.sampled_from([8, 24, 64, 1 << 20]),
    dtype=st.sampled_from(["f2", "f4", "f8", "i8", "u1"]),
    elements=st.integers(0, 40),
    op=ops,
    eager=st.booleans(),
    decided=st.lists(decisions, min_size=1, max_size=4),
)
def test_decisions_are_those_of_rank_0_and_change_no_message(
    size: int,
    aggregators: int,
    chunk_bytes: int,
    dtype: str,
    elements: int,
    op: Any,
    eager: bool,
    decided: list[Decision],
) -> None:
    """Two messages a round: the second one is left alone."""

    def exchange(comm: Any, round: int) -> bytes:
        x = values(dtype, elements, comm.rank, round)
        again = values(dtype, elements, comm.rank, -round % 99)

        def fill(ready: Callable[[int, int], None]) -> None:
            for name, value in values(dtype, elements, comm.rank, round).items():
                x[name][...] = value

        comm.all_reduce(x, op, fill=None if eager else fill)
        comm.all_reduce(again)
        return b"".join(a.tobytes() for a in [*x.values(), *again.values()])

    def plain(engine: Engine) -> list[bytes]:
        return [exchange(engine, round) for round in range(1, len(decided) + 1)]

    def controlled(engine: Engine) -> tuple[list[bytes], list[Decision], int]:
        comm = ControlledCommunicator(engine, lambda round: decided[round - 1] if engine.rank == 0 else GO_ON)
        told, messages = [], []
        for round in range(1, len(decided) + 1):
            comm.begin(round)
            messages.append(exchange(comm, round))
            told.append(comm.end())
        return messages, told, comm.sequence

    keys: dict[str, Any] = {"aggregators": min(aggregators, size), "chunk_bytes": chunk_bytes}
    expected = on_ranks(size, plain, **keys)
    for rank, (messages, told, sequence) in enumerate(on_ranks(size, controlled, **keys)):
        assert messages == expected[rank]
        assert told == decided
        assert sequence == 2 * len(decided)


@pytest.mark.parametrize("size", [2, 3])
def test_a_round_without_an_all_reduce_is_followed_by_one(size: int) -> None:
    """Other collectives carry nothing: not everybody's bytes go to everybody in them."""

    def work(engine: Engine) -> tuple[Decision, int]:
        comm = ControlledCommunicator(engine, lambda round: Decision(time_up=round == 1, checkpoint=True))
        comm.begin(1)
        comm.broadcast({"a": np.ones(3)})
        assert [gathered["a"].item() for gathered in comm.all_gather({"a": np.array(comm.rank)})] == list(range(size))
        comm.barrier()
        return comm.end(), comm.sequence

    assert on_ranks(size, work) == [(Decision(time_up=True, checkpoint=True), 4)] * size


def test_rank_0_decides_when_its_contribution_is_computed() -> None:
    """So the time that a round takes counts; others are not asked."""

    def work(engine: Engine) -> list[str]:
        order: list[str] = []

        def decide(round: int) -> Decision:
            order.append(f"decide {round}")
            return GO_ON

        comm = ControlledCommunicator(engine, decide)
        comm.begin(7)
        comm.all_reduce({"a": np.ones(2)}, fill=lambda ready: order.append("fill"))
        comm.end()
        return order

    assert on_ranks(2, work) == [["fill", "decide 7"], ["fill"]]
    assert on_ranks(1, work) == [["fill", "decide 7"]]


def test_the_stored_decision_counts() -> None:
    """Whatever a second rank 0 thinks: it finds the result, and is not even asked."""
    url = f"memory://control-{uuid.uuid4()}"

    def work(rank: int, restored: bool, mind: Decision | None) -> Decision:
        engine = Engine(open_storage(url), rank=rank, size=2, restored=restored)
        engine.frontier = 0

        def decide(round: int) -> Decision:
            assert mind is not None
            return mind

        comm = ControlledCommunicator(engine, decide)
        comm.begin(1)
        comm.all_reduce({"a": np.ones(2)})
        return comm.end()

    first = Decision(time_up=False, checkpoint=True)
    assert together(lambda: work(0, False, first), lambda: work(1, False, None), limit_s=60) == [first, first]
    assert [work(rank, True, None) for rank in range(2)] == [first, first]


def test_who_has_nothing_to_decide_sends_what_others_send() -> None:
    """Not a byte more, and one worker sends nothing at all."""

    def sent(wrap: Callable[[Engine], Any], size: int) -> list[tuple[int, int]]:
        url = f"memory://control-{uuid.uuid4()}"
        counts = [Counts() for _ in range(size)]
        engines = [
            Engine(Count(open_storage(url), count), rank=rank, size=size, aggregators=size)
            for rank, count in enumerate(counts)
        ]

        def work(comm: Any) -> None:
            comm.all_reduce({"a": np.ones(100)})

        together(*(lambda engine=engine: work(wrap(engine)) for engine in engines), limit_s=60)
        return [(count.put, count.sent) for count in counts]

    def silent(engine: Engine) -> ControlledCommunicator:
        comm = ControlledCommunicator(engine, None)
        comm.begin(1)
        assert comm.end() == GO_ON
        return comm

    def deciding(engine: Engine) -> ControlledCommunicator:
        comm = ControlledCommunicator(engine, lambda round: GO_ON)
        comm.begin(1)
        return comm

    assert sent(silent, 3) == sent(lambda engine: engine, 3)
    assert sent(deciding, 1) == [(0, 0)]


def test_ready_says_what_it_says_without_control() -> None:
    """Bytes of an optimizer's own arrays lie where they would."""
    heard: list[tuple[int, int]] = []

    class Listening(Engine):
        def all_reduce(self, x: Arrays, op: Any = "sum", *, fill: Any = None) -> None:
            assert next(iter(x)) == "a"
            assert fill is not None
            fill(lambda lo, hi: heard.append((lo, hi)))

    comm = ControlledCommunicator(Listening(open_storage("memory://control"), rank=0, size=2), lambda round: GO_ON)
    comm.begin(1)
    comm.all_reduce({"a": np.ones(100)}, fill=lambda ready: ready(0, 64))
    assert heard == [(0, 64)]
