"""The simulator: the collectives of all ranks in one thread, over a storage that consists of numbers.

It runs the generators that the engine runs, so requests, bytes and results are the real ones, and fewer bytes where
the program's arrays are mostly zeros; time is counted, not spent. What a storage costs is what its
:class:`~lambdaml_core.storage.base.StorageCaps` say:

- requests made together take turns on ``parallel`` connections: so many at a time, each a latency and its bytes over
  the bandwidth of a connection, the next ones when the longest of these is done. Their values appear then;
- a wait is one request for each value that it brings, and begins when the first of them appears: no request is made
  in vain. Storage that does not wait inside adds its polls to this;
- a delete takes no time, since the engine goes on meanwhile, and is counted (and paid) per key, as on most storages;
- looking at values, folding and computing take no time: add what they take.

Clients do not slow each other down. Results are therefore lower bounds, and those of LambdaML's formulas (Jiang et
al., SIGMOD 2021, section 5.3) where these apply.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lambdaml_core.comm.planner import Planner, chunk_length
from lambdaml_core.comm.schedule import Delete, GetMany, PutMany, Request, Requests, StillIntact
from lambdaml_core.errors import DeadlineExpired, LambdaMLError
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.layers import Counts, size_of

Program: TypeAlias = Callable[[Planner], Requests]
"""What a rank does: it yields from ``planner.all_reduce(...).run(fill)`` and the like."""


class SimulatedStorage:
    """Values by key, with the moment at which each appeared.

    Memory of a deleted value is overwritten at once and used again by the next value of its size, as a storage that
    hands out views does: whoever looks without asking whether a value is intact sees garbage.
    """

    def __init__(self, caps: StorageCaps) -> None:
        self.caps = caps
        self.counts = Counts()
        self.values: dict[str, memoryview] = {}
        self._created_at: dict[str, float] = {}
        self._free: dict[int, list[memoryview]] = {}

    def appeared(self, keys: Sequence[str]) -> float | None:
        """When the first of these appeared; None = none of them is there."""
        return min((self._created_at[key] for key in keys if key in self.values), default=None)

    def create(self, key: str, parts: Parts, at: float) -> bool:
        """Store a value that appears at a moment, unless there is one."""
        data = b"".join(parts)
        self.counts.add(put=1, sent=len(data))
        if key in self.values:
            return False
        free = self._free.get(len(data))
        memory = free.pop() if free else memoryview(bytearray(len(data)))
        memory[:] = data
        self.values[key] = memory[:]  # a new view each time, so that it identifies the creation
        self._created_at[key] = at
        return True

    def get(self, keys: Sequence[str]) -> dict[str, Buffer]:
        """Those that exist."""
        found: dict[str, Buffer] = {key: self.values[key] for key in keys if key in self.values}
        self.counts.add(received=sum(self.values[key].nbytes for key in found))
        return found

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.counts.add(delete=1)
        memory = self.values.pop(key, None)
        if memory is not None:
            memory[:] = b"\xee" * memory.nbytes
            self._free.setdefault(memory.nbytes, []).append(memory)

    def intact(self, key: str, data: Buffer) -> bool:
        """As :meth:`~lambdaml_core.storage.base.SupportsViews.intact`."""
        return self.values.get(key) is data


class Process:
    """One attempt of one rank: a generator of requests, taken on in steps.

    A step is one effect (one value created or deleted, one look at what is there, ...), or an answer handed to the
    generator; between two steps other processes may do theirs.

    Attributes:
        clock: seconds it has taken so far.
        request: what is under way; None = its answer is there, or the process has ended.
        done: it has ended, by ``error`` unless that is None.
    """

    def __init__(self, rank: int, requests: Requests, storage: SimulatedStorage) -> None:
        self.rank = rank
        self.clock = 0.0
        self.request: Request | None = None
        self.done = False
        self.error: LambdaMLError | None = None
        self._requests, self._storage = requests, storage
        self._answer: Any = None
        self._todo: deque[str] = deque()  # keys of a PutMany or Delete that is under way
        self._started = 0  # requests of those that have been made

    def ready_at(self) -> float | None:
        """When its next step is over; None = it waits for a value that is not there."""
        wanted = self.waits_for()
        if wanted:
            appeared = self._storage.appeared(wanted)
            return None if appeared is None else max(self.clock, appeared)
        return self.clock + self._effect_s()

    def waits(self) -> bool:
        """Whether there is nothing it could do now."""
        wanted = self.waits_for()
        return bool(wanted) and not any(key in self._storage.values for key in wanted)

    def waits_for(self) -> Sequence[str]:
        """The keys of which one must exist for it to go on."""
        request = self.request
        return request.keys if isinstance(request, GetMany) and request.makers is not None else ()

    def waits_for_ranks(self) -> Collection[int]:
        """Who makes the keys that it waits for."""
        makers = self.request.makers if isinstance(self.request, GetMany) else None
        return set((makers or {}).values())

    def step(self) -> None:
        """Do the next step, if there is one."""
        request = self.request
        if request is None:
            self._proceed()
            return
        ready = self.ready_at()
        if ready is None:
            return
        self.clock = ready
        if isinstance(request, PutMany | Delete):
            key = self._todo.popleft()
            self._started += 1
            if isinstance(request, Delete):
                self._storage.delete(key)
            elif self._storage.create(key, request.items[key], self.clock):
                self._answer.append(key)
            if self._todo:
                return
        elif isinstance(request, GetMany):
            self._answer = self._storage.get(request.keys)
            sizes = [memoryview(value).nbytes for value in self._answer.values()]
            missed = 0 if request.makers is not None else len(request.keys) - len(sizes)
            self._storage.counts.add(get=len(sizes) + missed)
            self.clock += self._transfer_s([*sizes, *[0] * missed])
        elif isinstance(request, StillIntact):
            self._answer = all(self._storage.intact(key, data) for key, data in request.values)
        else:
            request.fill(_ignore)
        self.request = None

    def give_up_waiting(self) -> None:
        """A quarter of its deadline has passed: it is answered that nothing came."""
        self.request, self._answer = None, {}

    def lose_acknowledgement(self) -> bool:
        """The create just made is made again, and told that the value exists; False = there was none."""
        creating = isinstance(self.request, PutMany) or (self.request is None and isinstance(self._answer, list))
        return creating and bool(self._answer) and self._answer.pop() is not None

    def next_key(self) -> str | None:
        """The key that the next step creates or deletes."""
        return self._todo[0] if self._todo else None

    def _proceed(self) -> None:
        try:
            self.request = self._requests.send(self._answer)
        except StopIteration:
            self.done = True
        except LambdaMLError as e:
            self.done, self.error = True, e
        self._answer = None
        if isinstance(self.request, PutMany | Delete):
            self._todo.extend(self.request.items if isinstance(self.request, PutMany) else self.request.keys)
            self._answer, self._started = [], 0

    def _effect_s(self) -> float:
        request, parallel = self.request, self._storage.caps.parallel
        if isinstance(request, PutMany) and self._started % parallel == 0:
            together = itertools.islice(self._todo, parallel)
            return self._transfer_s([size_of(request.items[key]) for key in together])
        return 0.0

    def _transfer_s(self, sizes: Sequence[int]) -> float:
        caps = self._storage.caps
        longest = [max(sizes[first : first + caps.parallel]) for first in range(0, len(sizes), caps.parallel)]
        return sum(caps.latency_s + (size / caps.bytes_per_s if caps.bytes_per_s else 0.0) for size in longest)


@dataclass(frozen=True)
class Simulated:
    """What a program costs.

    Attributes:
        seconds: until each rank has ended.
        counts: requests and bytes of all ranks.
        usd: price of the requests and bytes in US dollars.
    """

    seconds: tuple[float, ...]
    counts: Counts
    usd: float


def simulate(program: Program, caps: StorageCaps, *, size: int, aggregators: int = 1, **settings: Any) -> Simulated:
    """Run a program on all ranks at once, each as soon as its storage lets it.

    Args:
        caps: of the channel: latency, bandwidth, parallel connections and prices.
        settings: further ones of :class:`~lambdaml_core.comm.planner.Planner`; how long chunks are follows from caps,
            as in the engine, unless it is given.

    Raises:
        LambdaMLError: what a rank raised.
        DeadlineExpired: the ranks wait for each other for ever.
    """
    storage = SimulatedStorage(caps)
    settings = {"chunk_bytes": chunk_length(caps), "parallel": caps.parallel, **settings}
    planners = [Planner(rank=rank, size=size, aggregators=aggregators, **settings) for rank in range(size)]
    processes = [Process(planner.rank, program(planner), storage) for planner in planners]
    queue: list[tuple[float, bool, int]] = []  # what is ready: when, whether it is a look (last: it sees more), rank
    waiting = set(processes)
    while True:
        for process in list(waiting):
            ready = process.ready_at()
            if ready is not None:
                waiting.remove(process)
                heapq.heappush(queue, (ready, bool(process.waits_for()), process.rank))
        if not queue:
            break
        process = processes[heapq.heappop(queue)[2]]
        process.step()
        if not process.done:
            waiting.add(process)
    for process in processes:
        if process.error is not None:
            raise process.error
    if waiting:
        stuck = ", ".join(
            f"rank {process.rank} for {process.waits_for()[0]}" for process in processes if not process.done
        )
        raise DeadlineExpired(f"the ranks wait for each other for ever: {stuck}")
    usd = sum(price * getattr(storage.counts, kind) for kind, price in caps.usd.items())
    return Simulated(tuple(process.clock for process in processes), storage.counts, usd)


def _ignore(lo: int, hi: int) -> None:
    """``ready`` is a hint; a simulated worker sends when fill has returned."""
