"""Processes of ranks that publish and merge in one thread: any of them can be stopped before any of its requests, for
good or while others go on, and what each has published is written down."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.exchange import FOREVER, SlotExchange
from lambdaml_core.errors import ResultLost
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import Layer

SIZE = 3
Array = NDArray[Any]


class Killed(Exception):
    """A process is no more."""


class Hooked(Layer):
    """A storage that calls somebody before each request."""

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.before: Callable[[], None] = lambda: None

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self.before()
        return super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        self.before()
        return super().get_many(keys, wait_s=wait_s)

    def delete(self, keys: Iterable[str]) -> None:
        self.before()
        super().delete(keys)

    def list(self, prefix: str) -> Iterator[str]:
        self.before()
        return super().list(prefix)


class Unlisted(Layer):
    """A storage that cannot list."""

    def list(self, prefix: str) -> Iterator[str]:
        from lambdaml_core.errors import NotSupported

        raise NotSupported("it cannot list")


class Act(NamedTuple):
    """What is to happen: ``rank`` publishes, merges, or is started (beside what there is of it).

    Attributes:
        process: which of the rank's processes, counted from the newest.
        stop: how many requests it makes before it is stopped; None = it is not.
        meanwhile: what happens while it is stopped; None = it is killed.
    """

    what: str
    rank: int
    process: int = 0
    stop: int | None = None
    meanwhile: Sequence[Act] | None = ()


class Process:
    """One process of a rank, from its start on."""

    def __init__(self, stage: Stage, rank: int) -> None:
        self.channel = Hooked(stage.open())
        self.rank, self.stage, self.alive = rank, stage, True
        self.busy = False
        self.sum = np.zeros(2)
        self.asked = 0
        self.exchange = SlotExchange(
            self.channel, rank=rank, size=SIZE, restored=True, deadline_s=0.1, signs=self._signs
        )

    def _signs(self, missing: Collection[int], sequence: int) -> Mapping[int, float]:
        """Waits end by what comes, or after so many looks; never by a clock, which others' work would count in."""
        self.asked += 1
        assert self.asked < 100, f"nothing comes of rank {missing}"
        return dict.fromkeys(missing, 0.0)

    def start(self) -> None:
        known = max(self.stage.published[self.rank], default=0)
        clock = self.exchange.resume({"sum": self.sum})
        assert clock >= known, "it goes on from an older slot than was published"
        self.stage.check(self.rank, clock, self.sum)

    def publish(self, *, last: bool = False) -> None:
        stage, clock = self.stage, self.exchange.own.clock + 1
        self.sum += (1, next(stage.numbers))
        stage.tried[self.rank, clock].append(self.sum.copy())
        self.exchange.publish({"sum": self.sum}, clock=clock, last=last)
        assert clock not in stage.published[self.rank], "two processes have published one clock"
        stage.published[self.rank][clock] = self.sum.copy()

    def merge(self, min_clock: int = 0) -> Sequence[int]:
        before, total = self.exchange.clocks, np.full(2, np.nan)
        known = [max(self.stage.published[rank], default=0) for rank in range(SIZE)]
        clocks = self.exchange.merge({"sum": total}, min_clock=min_clock)
        assert all(now >= then for now, then in zip(clocks, before, strict=True)), "a slot went back"
        if not self.stage.twins:
            assert all(now >= then for now, then in zip(clocks, known, strict=True)), "a published slot was not seen"
        everything = [self.stage.value(rank, clock) for rank, clock in enumerate(clocks)]
        assert any(np.array_equal(total, np.sum(each, 0)) for each in itertools.product(*everything))
        return clocks


class Stage:
    """All processes, and what they have published."""

    def __init__(self, url: str = "memory://{name}", *, lists: bool = True) -> None:
        self._url, self._lists = url.format(name=uuid.uuid4()), lists
        self.numbers = itertools.count(1)
        self.published: dict[int, dict[int, Array]] = defaultdict(dict)
        self.tried: dict[tuple[int, int], list[Array]] = defaultdict(list)
        self.processes: dict[int, list[Process]] = {rank: [] for rank in range(SIZE)}
        self.twins = False
        for rank in range(SIZE):
            self.do(Act("start", rank))

    def open(self) -> FullStorage:
        opened = open_storage(self._url)
        return opened if self._lists else Unlisted(opened)

    def value(self, rank: int, clock: int) -> list[Array]:
        """What may have been published: that which was, or whatever somebody tried who did not live to hear of it."""
        if clock == 0:
            return [np.zeros(2)]
        return [self.published[rank][clock]] if clock in self.published[rank] else self.tried[rank, clock]

    def check(self, rank: int, clock: int, x: Array) -> None:
        assert any(np.array_equal(x, value) for value in self.value(rank, clock))

    def do(self, act: Act) -> None:
        """Do it, and what is to happen while it is stopped."""
        if act.what == "start":
            process = Process(self, act.rank)
            self.twins |= any(p.alive for p in self.processes[act.rank])
            self.processes[act.rank].append(process)
        else:
            living = [p for p in self.processes[act.rank] if p.alive and not p.busy]
            if not living:
                return
            process = living[-1 - act.process % len(living)]
        requests = itertools.count()

        def before() -> None:
            if next(requests) != act.stop:
                return
            if act.meanwhile is None:
                raise Killed
            for other in act.meanwhile:
                self.do(other)

        process.channel.before, process.busy = before, True
        try:
            getattr(process, act.what)()
        except (Killed, ResultLost):
            process.alive = False
        finally:
            process.channel.before, process.busy = lambda: None, False

    def finish(self) -> Array:
        """Every rank starts once more, publishes its last, and merges all. Returns the sum."""
        for rank in range(SIZE):
            self.do(Act("start", rank))
            self.processes[rank][-1].publish(last=True)
        totals = []
        for rank in range(SIZE):
            newest = self.processes[rank][-1]
            assert newest.merge(FOREVER) == [self.processes[r][-1].exchange.own.clock for r in range(SIZE)]
            totals.append(sum(self.processes[r][-1].sum for r in range(SIZE)))
        return np.asarray(totals[0])

    def keys(self) -> Collection[str]:
        with contextlib.closing(open_storage(self._url)) as opened:
            return list(opened.list(""))
