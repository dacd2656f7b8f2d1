"""What is done with is deleted without anybody waiting for it, and what is left is known."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comm_channels import all_well, engines, memory

from lambdaml_core.comm.deletes import Deletes
from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import DeadlineExpired, StorageUnavailable
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.storage.layers import FullStorage, Layer


class Far(Layer):
    """A channel in a network, whose deletes take until they are let go."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.deleted: list[list[str]] = []
        self.go = threading.Event()
        self.fails = 0

    @property
    def caps(self) -> StorageCaps:
        return replace(self.inner.caps, scope="network")

    def delete(self, keys: Iterable[str]) -> None:
        assert self.go.wait(60)
        if self.fails:
            self.fails -= 1
            raise StorageUnavailable("not now")
        self.deleted.append(list(keys))
        self.inner.delete(self.deleted[-1])


def test_near_by_a_delete_is_made_at_once() -> None:
    channel = memory()
    channel.put("a", [b""])
    Deletes(channel).add(["a"], 0)
    assert list(channel.list("")) == []


def test_far_away_deletes_are_made_together_while_others_are_under_way() -> None:
    channel = Far(memory())
    deletes = Deletes(channel)
    for i in range(200):
        deletes.add([f"k{i}"], 100)
    assert channel.deleted == []
    channel.go.set()
    assert len(channel.deleted) <= 1, "the first 64 together"
    deletes.close()
    assert [len(keys) for keys in channel.deleted] == [64, 136]
    assert deletes.left() == []


class Server(Layer):
    """A channel on this host that takes a while to answer."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.deleted: list[int] = []
        self.fails = False

    @property
    def caps(self) -> StorageCaps:
        return replace(self.inner.caps, scope="host", latency_s=50e-6)

    def delete(self, keys: Iterable[str]) -> None:
        if self.fails:
            raise StorageUnavailable("not now")
        assert threading.current_thread() is threading.main_thread()
        self.deleted.append(len(list(keys)))


def test_a_server_on_this_host_is_asked_to_delete_many_small_values_or_a_large_one() -> None:
    channel = Server(memory())
    deletes = Deletes(channel)
    for i in range(130):
        deletes.add([f"k{i}"], 1000)
    assert channel.deleted == [64, 64]
    deletes.add(["large"], 2 << 20)
    assert channel.deleted == [64, 64, 3]
    channel.fails = True
    with pytest.raises(StorageUnavailable):
        deletes.add(["another"], 2 << 20)
    channel.fails = False
    assert deletes.left() == ["another"]
    deletes.close()
    assert channel.deleted == [64, 64, 3, 1]


def test_large_values_are_deleted_at_once() -> None:
    channel = Far(memory())
    channel.go.set()
    deletes = Deletes(channel)
    deletes.add(["a", "b"], 12_000_000)
    assert deletes.left() == []
    assert channel.deleted == [["a", "b"]]


def test_what_a_delete_raises_is_raised_to_the_next_and_its_keys_are_left() -> None:
    channel = Far(memory())
    channel.go.set()
    channel.fails = 1
    deletes = Deletes(channel)
    deletes.add(["a"], 1 << 30)
    assert deletes.left() == ["a"]
    with pytest.raises(StorageUnavailable):
        deletes.add(["b"], 1 << 30)
    assert deletes.left() == ["a", "b"]
    deletes.close()
    assert channel.deleted == [["a", "b"]]
    channel.fails = 1
    deletes.add(["c"], 10)
    with pytest.raises(StorageUnavailable):
        deletes.close()


@pytest.mark.parametrize("aggregators", [1, 2, 3])
@pytest.mark.parametrize("far", [False, True])
def test_all_that_is_in_a_channel_is_what_its_ranks_say_is_left(aggregators: int, far: bool) -> None:
    channel: Any = memory()
    if far:
        channel = Far(channel)
        channel.go.set()
    comms = engines(channel, 3, aggregators=aggregators, chunk_bytes=256)

    def work(rank: int) -> None:
        for _ in range(30):
            comms[rank].all_reduce({"g": np.ones(200)})
            comms[rank].broadcast({"g": np.ones(2)}, root=1)

    all_well(3, work)
    left = [comm.left() for comm in comms]
    assert sorted(channel.list("")) == sorted(key for keys in left for key in keys)
    for comm in comms:
        comm.close()
    assert len(list(channel.list(""))) <= 3 * (aggregators + 3), "the results of the last collectives"
    channel.delete([key for comm in comms for key in comm.left()])
    assert list(channel.list("")) == []


def test_what_was_sent_to_an_owner_who_never_came_is_left() -> None:
    channel = memory()
    comm = Engine(channel, rank=1, size=2, deadline_s=0.01)
    with pytest.raises(DeadlineExpired):
        comm.all_reduce({"g": np.ones(3)})
    assert comm.left() == list(channel.list("")) == ["g0/in-0/0.0.1"]
