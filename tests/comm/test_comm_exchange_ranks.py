"""Ranks that exchange asynchronously at the same time: how far apart they come, how they wait, and what ends a wait."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambdaml_core.comm.exchange import FOREVER, SlotExchange
from lambdaml_core.comm.slots import durable
from lambdaml_core.errors import (
    CorruptMessage,
    DeadlineExpired,
    MismatchedMessage,
    NotSupported,
    ResultLost,
    UsageError,
)
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.base import Buffer, StorageCaps
from lambdaml_core.storage.layers import Layer
from lambdaml_core.testing.threads import together

SIZE = 3


class Polled(Layer):
    """A storage that cannot wait."""

    @property
    def caps(self) -> StorageCaps:
        return dataclasses.replace(self.inner.caps, blocks=False)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        return self.inner.get_many(keys)


def url_of(kind: str, folder: Path) -> str:
    places = {"file": f"file://{folder}/channel", "chunks": f"acme://{folder}"}
    return places.get(kind, f"memory://{uuid.uuid4()}")


def opened(kind: str, url: str) -> FullStorage:
    return Polled(open_storage(url)) if kind == "polled" else open_storage(url)


@pytest.mark.parametrize("kind", ["memory", "polled", "file"])
@pytest.mark.parametrize("staleness", [0, 1, 4, None])
def test_nobody_is_further_ahead_than_the_staleness(kind: str, staleness: int | None, tmp_path: Path) -> None:
    """Neither by what a rank has seen, nor by what there is."""
    url, clocks = url_of(kind, tmp_path), 40
    begun, done = [0] * SIZE, [0] * SIZE  # publishing clocks

    def work(rank: int) -> Sequence[int]:
        exchange = SlotExchange(opened(kind, url), rank=rank, size=SIZE, deadline_s=30)
        mine, total = np.zeros(5), np.zeros(5)
        for clock in range(1, clocks + 1):
            mine += rank + 1
            begun[rank] = clock
            exchange.publish({"sum": mine}, clock=clock, last=clock == clocks)
            done[rank] = clock
            furthest = max(done)
            assert staleness is None or furthest - min(begun) <= staleness + 1
            if clock == clocks:
                break
            least = 0 if staleness is None else max(0, clock - staleness)
            seen = exchange.merge({"sum": total}, min_clock=least)
            assert seen[rank] == clock
            assert staleness is None or min(seen) >= clock - staleness
            assert (total == sum((r + 1) * c for r, c in enumerate(seen))).all()
        final = exchange.merge({"sum": total}, min_clock=FOREVER)
        assert (total == 6 * clocks).all()
        assert exchange.finished == {0, 1, 2}
        return final

    assert together(*(lambda rank=rank: work(rank) for rank in range(SIZE)), limit_s=60) == [[clocks] * SIZE] * SIZE


@pytest.mark.parametrize("kind", ["memory", "polled"])
def test_a_rank_that_has_finished_is_waited_for_no_more(kind: str) -> None:
    url = url_of(kind, Path())
    exchanges = [SlotExchange(opened(kind, url), rank=rank, size=2, deadline_s=30) for rank in range(2)]
    exchanges[0].publish({"x": np.array([1.0])}, clock=1, last=True)
    total = np.zeros(1)
    for clock in range(1, 9):
        exchanges[1].publish({"x": np.array([10.0 * clock])}, clock=clock)
        assert exchanges[1].merge({"x": total}, min_clock=clock) == [1, clock]
        assert total[0] == 1 + 10 * clock


@pytest.mark.parametrize("kind", ["memory", "polled"])
def test_a_wait_has_a_deadline_and_names_who_is_missing(kind: str) -> None:
    channel = opened(kind, url_of(kind, Path()))
    exchanges = [SlotExchange(channel, rank=rank, size=4, deadline_s=0.1) for rank in range(4)]
    for rank, clock in ((0, 1), (0, 2), (1, 1), (3, 1), (3, 2)):
        exchanges[rank].publish({"x": np.ones(1)}, clock=clock)
    with pytest.raises(DeadlineExpired, match=r"waiting for clock 2: nothing from rank 1, 2 for"):
        exchanges[0].merge({"x": np.ones(1)}, min_clock=2)
    with pytest.raises(DeadlineExpired, match=r"the last clock: nothing from rank 1, 2, 3 for"):
        exchanges[0].merge({"x": np.ones(1)}, min_clock=FOREVER)


def test_signs_of_life_extend_it_and_an_end_is_noticed() -> None:
    asked: list[Collection[int]] = []

    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        asked.append(missing)
        if len(asked) == 9:
            raise ResultLost("rank 1 has finished")
        return dict.fromkeys(missing, 0.0)

    exchange = SlotExchange(open_storage(url_of("", Path())), rank=0, size=2, deadline_s=0.05, signs=signs)
    asked.extend([[9]] * 5)
    with pytest.raises(ResultLost, match="its slot is nowhere: 1"):
        exchange.merge({"x": np.ones(1)}, min_clock=1)
    assert asked[5:] == [[1]] * 4, "after an end it has looked once more"
    assert exchange.waited_s > 0
    assert not exchange.waiting


@pytest.mark.parametrize("kind", ["memory", "polled"])
def test_a_wait_can_be_left(kind: str) -> None:
    class Enough(Exception):
        pass

    looks: list[bool] = []

    def interrupt() -> None:
        looks.append(exchange.waiting)
        if len(looks) == 3:
            raise Enough

    exchange = SlotExchange(opened(kind, url_of(kind, Path())), rank=0, size=2, interrupt=interrupt, deadline_s=30)
    with pytest.raises(Enough):
        exchange.merge({"x": np.ones(1)}, min_clock=1)
    assert looks == [True] * 3


def test_who_waits_is_replaced() -> None:
    """A process learns in its wait that another one of its rank has begun."""
    url = url_of("", Path())
    old = SlotExchange(open_storage(url), rank=0, size=2, deadline_s=30)
    old.publish({"x": np.ones(1)}, clock=1)
    new = SlotExchange(open_storage(url), rank=0, size=2, restored=True)
    x = np.zeros(1)
    assert new.resume({"x": x}) == 1
    assert x[0] == 1
    with pytest.raises(ResultLost, match="another process of rank 0"):
        old.merge({"x": np.ones(1)}, min_clock=1)
    with pytest.raises(ResultLost, match="another process of rank 0"):
        old.publish({"x": np.ones(1)}, clock=2)


def test_a_slot_that_is_lost_is_no_slot_of_nothing() -> None:
    url = url_of("", Path())
    exchange = SlotExchange(open_storage(url), rank=0, size=2)
    exchange.publish({"x": np.ones(1)}, clock=1)
    open_storage(url).delete(["g0/x-0/1"])
    with pytest.raises(ResultLost, match="had come to clock 1, is nowhere"):
        SlotExchange(open_storage(url), rank=0, size=2, restored=True).resume({"x": np.ones(1)})


class Forgetful(Layer):
    """A cache."""

    @property
    def caps(self) -> StorageCaps:
        return dataclasses.replace(self.inner.caps, evicts=True)


def test_what_is_evicted_comes_back_while_somebody_waits() -> None:
    url = url_of("", Path())
    exchanges = [SlotExchange(Forgetful(open_storage(url)), rank=r, size=2, deadline_s=0.2) for r in range(2)]
    for exchange in exchanges:
        exchange.publish({"x": np.ones(1)}, clock=1, last=True)
    open_storage(url).delete(["g0/x-0/1", "g0/x-0/head", "g0/x-0/owner"])
    asked: list[Collection[int]] = []

    def signs(missing: Collection[int], sequence: int) -> Mapping[int, float]:
        asked.append(missing)
        exchanges[0].mend()  # rank 0 waits elsewhere, and looks around as often
        return dict.fromkeys(missing, 0.0)

    exchanges[1]._signs = signs
    assert exchanges[1].merge({"x": np.ones(1)}, min_clock=FOREVER) == [1, 1]
    assert asked == [[0]]


@pytest.mark.parametrize(
    "other", [{"x": np.ones(2)}, {"x": np.ones(1, np.float32)}, {"y": np.ones(1)}, {"x": np.ones(1), "y": np.ones(1)}]
)
def test_other_arrays_are_refused(other: dict[str, Any]) -> None:
    channel = open_storage(url_of("", Path()))
    SlotExchange(channel, rank=0, size=2).publish({"x": np.ones(1)}, clock=1)
    with pytest.raises(MismatchedMessage):
        SlotExchange(channel, rank=1, size=2).merge(other, min_clock=0)


def test_clocks_follow_each_other() -> None:
    exchange = SlotExchange(open_storage(url_of("", Path())), rank=0, size=2)
    for clock in (0, 2):
        with pytest.raises(UsageError, match=f"clock {clock} cannot follow clock 0"):
            exchange.publish({"x": np.ones(1)}, clock=clock)


def test_one_rank_alone_touches_no_channel() -> None:
    url = url_of("", Path())
    exchange = SlotExchange(open_storage(url), rank=0, size=1)
    total = np.zeros(3)
    assert exchange.resume({"x": total}) == 0
    for clock in range(1, 4):
        exchange.publish({"x": np.full(3, clock)}, clock=clock, last=clock == 3)
        assert exchange.merge({"x": np.zeros(3, np.int64)}, min_clock=FOREVER) == [clock]
    assert list(open_storage(url).list("")) == []
    assert exchange.left() == []
    exchange.close()


def test_a_channel_that_cannot_create_once_is_refused() -> None:
    class Careless(Layer):
        @property
        def caps(self) -> StorageCaps:
            return dataclasses.replace(self.inner.caps, creates_once=False)

    with pytest.raises(NotSupported, match="exactly once"):
        SlotExchange(Careless(open_storage(url_of("", Path()))), rank=0, size=2)


def test_a_kept_slot_is_gone_on_with_in_another_generation() -> None:
    url = url_of("", Path())
    exchange = SlotExchange(open_storage(url), rank=1, size=2)
    for clock in range(1, 4):
        exchange.publish({"x": np.full(2, 10.0 * clock), "y": np.array([clock])}, clock=clock, last=clock == 3)
    kept = b"".join(durable(exchange.own))
    after = [SlotExchange(open_storage(url), rank=rank, size=2, generation=1) for rank in range(2)]
    x = {"x": np.zeros(2), "y": np.array([0])}
    assert after[1].resume(x) == 0
    assert after[1].begin(x, kept) == 3
    assert (x["x"] == 30).all()
    assert x["y"] == [3]
    total = {"x": np.zeros(2), "y": np.array([0])}
    assert after[0].merge(total, min_clock=2) == [0, 3]
    assert (total["x"] == 30).all()
    assert after[0].finished == {1}
    with pytest.raises(UsageError, match="has a slot already"):
        after[1].begin(x, kept)
    with pytest.raises(CorruptMessage):
        after[0].begin(x, kept[:-1])
