"""Collectives that cannot end well fail by type: calls that differ, ranks that do not come, values that go."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from comm_channels import Forgetful, Plain, all_well, at_once, engines, memory, until_one_fails
from comm_reference import Named

from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import (
    CorruptMessage,
    DeadlineExpired,
    LambdaMLError,
    MismatchedMessage,
    NotSupported,
    ResultLost,
    UsageError,
)
from lambdaml_core.storage.layers import Complete


def copies(x: Named) -> Named:
    return {name: a.copy() for name, a in x.items()}


# --- ranks that are not in the same call --------------------------------------------------------------------

A = {"g": np.arange(4.0), "h": np.arange(3, dtype=np.int32)}


def reduced(x: Named, op: Any = "sum") -> Any:
    return lambda comm: comm.all_reduce(copies(x), op)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (reduced(A), reduced({"g": np.zeros(5), "h": A["h"]})),
        (reduced(A), reduced({"g": np.zeros((2, 2)), "h": A["h"]})),
        (reduced(A), reduced({"f": A["g"], "h": A["h"]})),
        (reduced(A), reduced({"h": A["h"], "g": A["g"]})),
        (reduced(A), reduced({"g": A["g"].astype(np.float32), "h": A["h"]})),
        (reduced(A), reduced({"g": A["g"], "h": A["h"].astype(np.uint32)})),
        (reduced(A), reduced({"g": A["g"]})),
        (reduced(A), reduced(A, "max")),
        (reduced(A), reduced(A, {"h": "min"})),
        (reduced(A), lambda comm: comm.barrier()),
        (reduced({}), lambda comm: comm.barrier()),
        (lambda comm: comm.all_gather(A), lambda comm: comm.all_gather({"g": A["g"]})),
        (lambda comm: comm.all_gather(A), lambda comm: comm.all_gather({"g": A["h"], "h": A["h"]})),
        (lambda comm: comm.broadcast(copies(A), 0), lambda comm: comm.broadcast({"g": A["g"].copy()}, 0)),
        (lambda comm: comm.all_gather(A), lambda comm: comm.broadcast(copies(A), 0)),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_ranks_in_different_calls_fail_by_type(one: Any, other: Any, swapped: bool) -> None:
    calls = [other, one] if swapped else [one, other]
    comms = engines(memory(), 2, aggregators=2)
    outcomes = until_one_fails(comms, lambda rank: calls[rank](comms[rank]))
    errors = [outcome for outcome in outcomes if isinstance(outcome, LambdaMLError)]
    assert all(isinstance(error, MismatchedMessage | DeadlineExpired) for error in errors)
    mismatched = [error for error in errors if isinstance(error, MismatchedMessage)]
    assert mismatched
    assert mismatched[0].hint is not None
    assert "same calls in the same order" in mismatched[0].hint


def test_the_first_difference_is_named() -> None:
    comms = engines(memory(), 2)
    xs: list[Named] = [A, {"g": A["g"], "h": np.zeros((3, 2), np.int32)}]
    outcome = until_one_fails(comms, lambda rank: comms[rank].all_reduce(copies(xs[rank])))[0]
    assert isinstance(outcome, MismatchedMessage)
    assert "h:i4:3x2:sum" in outcome.message
    assert "h:i4:3:sum" in outcome.message


def test_calls_in_another_order_give_no_numbers() -> None:
    x, y = {"x": np.ones(100)}, {"y": np.ones(100)}
    done: list[int] = []

    def work(rank: int) -> None:
        for a in (x, y) if rank < 2 else (y, x):
            comms[rank].all_reduce(copies(a))
            done.append(rank)

    comms = engines(memory(), 3, aggregators=3)
    outcomes = until_one_fails(comms, work)
    assert all(isinstance(outcome, MismatchedMessage | DeadlineExpired) for outcome in outcomes)
    assert any(isinstance(outcome, MismatchedMessage) for outcome in outcomes)
    assert done == []


@pytest.mark.parametrize("settings", [{"aggregators": 2}, {"chunk_bytes": 64}, {"size": 4}])
def test_ranks_with_different_settings_fail_by_type(settings: dict[str, int]) -> None:
    channel = memory()
    comms = engines(channel, 3)
    comms[1] = Engine(channel, **{"rank": 1, "size": 3, **settings})  # type: ignore[arg-type]
    outcomes = until_one_fails(comms, lambda rank: comms[rank].all_reduce({"g": np.ones(100)}))
    assert all(isinstance(outcome, MismatchedMessage | DeadlineExpired) for outcome in outcomes)


# --- ranks that do not come, and values that go -------------------------------------------------------------


def test_a_deadline_names_the_collective_and_who_is_missing() -> None:
    comms = engines(memory(), 4)
    all_well(4, lambda rank: comms[rank].barrier())
    for comm in comms:
        comm._deadline_s = 0.1
    for rank, missing in ((1, 0), (2, 0), (0, 3)):  # what ranks 1 and 2 have sent is there when rank 0 looks
        with pytest.raises(DeadlineExpired, match=f"^all_reduce number 1: nothing from rank {missing} for "):
            comms[rank].all_reduce({"g": np.ones(3)})


def test_a_deadline_is_extended_while_the_missing_are_alive() -> None:
    asked: list[tuple[list[int], int]] = []
    late = threading.Event()

    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        asked.append((list(missing), sequence))
        if len(asked) == 9:
            late.set()
        return dict.fromkeys(missing, 0.1)

    def work(rank: int) -> float:
        if rank == 1:
            late.wait()
        x = {"g": np.full(1, rank + 1.0)}
        comms[rank].all_reduce(x)
        return float(x["g"][0])

    channel = memory()
    comms = [Engine(channel, rank=rank, size=2, sequence=7, deadline_s=0.2, signs=signs) for rank in range(2)]
    assert all_well(2, work) == [3.0, 3.0]
    assert asked[0] == ([1], 8), "the number of the next collective, as a sign of life has it"
    assert comms[0].waited_s >= 0.4
    assert not comms[0].waiting


def test_a_rank_without_a_sign_of_life_is_given_up() -> None:
    ages = iter([{1: 0.0, 2: 3.2}, {1: 0.0, 2: 63.7}])
    comm = Engine(memory(), rank=0, size=3, deadline_s=5.0, signs=lambda missing, sequence: next(ages))
    comm._deadline_s = 0.1  # the first quarter is short, the ages are long
    comm.round = 4
    with pytest.raises(DeadlineExpired) as expired:
        comm.all_reduce({"g": np.ones(3)})
    assert re.fullmatch(
        r"all_reduce number 0 of round 4: nothing from rank 1, 2 for \d+ s; "
        r"last sign of life: rank 1's 0 s ago, rank 2's 3 s ago",
        str(expired.value).splitlines()[0],
    ), str(expired.value)


def test_a_rank_that_has_gone_on_without_a_result_has_lost_it() -> None:
    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        assert comm.waiting is False
        raise ResultLost(f"rank {missing} has gone past")

    comm = Engine(memory(), rank=1, size=2, deadline_s=0.1, signs=signs)
    with pytest.raises(ResultLost, match="gone past: g0/"):
        comm.barrier()


def test_a_result_that_comes_with_the_last_look_is_not_lost() -> None:
    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        comms[0].broadcast({"g": np.arange(3.0)})
        raise ResultLost("rank 0 has gone past")

    comms = engines(memory(), 2)
    comms[1] = Engine(comms[0]._channel, rank=1, size=2, deadline_s=0.1, signs=signs)
    x = {"g": np.zeros(3)}
    comms[1].broadcast(x)
    assert x["g"].tolist() == [0, 1, 2]


def test_a_wait_can_be_interrupted() -> None:
    class Cancelled(Exception):
        pass

    cancelled = threading.Event()

    def interrupt() -> None:
        if cancelled.is_set():
            raise Cancelled
        cancelled.set()  # at the next time

    comm = Engine(memory(), rank=0, size=2, interrupt=interrupt)
    with pytest.raises(Cancelled):
        comm.barrier()


@pytest.mark.parametrize("evicts", [False, True])
def test_contributions_that_were_dropped_are_made_again(evicts: bool) -> None:
    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        return dict.fromkeys(missing, 0.0)  # all live, however long they take to start

    channel = Forgetful(memory(), lambda key: "/in-" in key, evicts)
    comms = engines(channel, 3, aggregators=2, deadline_s=0.4, signs=signs)
    xs = [{"g": np.full(100, rank + 1.0)} for rank in range(3)]
    all_well(3, lambda rank: comms[rank].all_reduce(xs[rank]))
    assert all(x["g"].tolist() == [6.0] * 100 for x in xs)
    assert len(channel.dropped) == 4


def test_a_result_that_was_dropped_is_a_typed_error() -> None:
    channel = Forgetful(memory(), lambda key: key.startswith("g0/0-"))
    comms = engines(channel, 2, deadline_s=0.4)
    outcomes = at_once(2, lambda rank: comms[rank].all_reduce({"g": np.ones(3)}))
    assert isinstance(outcomes[1], DeadlineExpired)


@pytest.mark.parametrize("garbage", [b"", b"hello", bytes(500), b"LMLM" + bytes(500)])
@pytest.mark.parametrize("key", ["g0/in-0/0.0.1", "g0/0-0/0.0"])
def test_garbage_on_a_key_is_told(garbage: bytes, key: str) -> None:
    channel = memory()
    channel.put(key, [garbage])
    comms = engines(channel, 2)
    outcomes = until_one_fails(comms, lambda rank: comms[rank].all_reduce({"g": np.ones(3)}))
    kinds = (CorruptMessage, MismatchedMessage, DeadlineExpired)
    assert any(isinstance(outcome, CorruptMessage | MismatchedMessage) and key in str(outcome) for outcome in outcomes)
    assert all(isinstance(outcome, kinds) for outcome in outcomes)


# --- what cannot work is refused before anything is sent ----------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda comm: comm.all_reduce({"g": np.zeros((3, 3)).T}),
        lambda comm: comm.all_reduce({"g": np.zeros(3, complex)}),
        lambda comm: comm.all_reduce({"g": np.zeros(3)}, {"loss": "max"}),
        lambda comm: comm.all_gather({"g": np.zeros(8)[::2]}),
        lambda comm: comm.broadcast({"g": np.zeros(3)}, root=2),
        lambda comm: comm.broadcast({"g": np.zeros(3)}, root=-1),
    ],
)
def test_bad_calls_are_refused_and_change_nothing(call: Any) -> None:
    channel = memory()
    comms = engines(channel, 2)
    with pytest.raises(UsageError):
        call(comms[0])
    assert list(channel.list("")) == []
    assert comms[0].sequence == 0
    all_well(2, lambda rank: comms[rank].barrier())


def test_foreign_byte_order_is_refused_after_the_same_shape_was_moved() -> None:
    comms = engines(memory(), 2)
    all_well(2, lambda rank: comms[rank].all_reduce({"g": np.zeros(3)}))
    with pytest.raises(UsageError, match="byte order"):
        comms[0].all_reduce({"g": np.zeros(3, ">f8")})


@pytest.mark.parametrize("settings", [{"rank": 2}, {"rank": -1}, {"aggregators": 0}, {"aggregators": 3}])
def test_bad_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Engine(memory(), **{"rank": 0, "size": 2, **settings})  # type: ignore[arg-type]


def test_a_channel_must_create_once() -> None:
    class Overwriting(Plain):
        caps = Plain.caps.__class__(scope="process")

    with pytest.raises(NotSupported, match="exactly once"):
        Engine(Complete(Overwriting()), rank=0, size=2)
    Engine(Complete(Overwriting()), rank=0, size=1)


def test_what_was_waited_makes_no_deadline_longer() -> None:
    """Else one long wait would be the measure of the next."""
    channel = memory()
    late = Engine(channel, rank=1, size=2)
    began = time.monotonic()
    comm = Engine(channel, rank=0, size=2, interrupt=lambda: late.broadcast({"x": np.ones(1)}, 1))
    comm.broadcast({"x": np.zeros(1)}, 1)
    assert comm.waited_s > 0
    assert sum(comm._took) <= time.monotonic() - began - comm.waited_s
