"""``fault+URL``: any storage with faults from a seed, to see in real runs that none of them is ever noticed.

``fault+file:///dev/shm/channel?fault_seed=1&fault_lost=0.01`` loses the answer of one request in a hundred. Whether a
request has a fault depends on nothing but the seed, the fault, the kind of request, its first key, and how often this
client has made such a request, so that what was seen once can be had again.

``fault_latency_s``, ``fault_bytes_per_s`` and ``fault_parallel`` are no faults but a network: every request takes so
long, whatever its turn. A wait within the storage is a request for each value that it brings, made when that appears.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from lambdaml_core.builtin import FaultOptions
from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.specs import Reference
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.layers import Complete, FullStorage, Layer, size_of
from lambdaml_core.storage.url import StorageURL

T = TypeVar("T")

_VICTIMS = 32  # values of this client, the newest, among which one is evicted: older ones are mostly gone already


class Fault(Layer):
    """A storage whose requests are late, made twice or lose their answer, and whose values are cut short or vanish."""

    def __init__(self, inner: FullStorage, options: FaultOptions) -> None:
        super().__init__(inner)
        self._options = options
        caps = self.inner.caps
        loses = bool(options.fault_truncate or options.fault_evict)
        self._network = _Network(options, caps.parallel)
        self._caps = replace(
            caps,
            checksums=True,
            durable=caps.durable and not loses,
            evicts=caps.evicts or bool(options.fault_evict),
            parallel=self._network.connections,
            latency_s=caps.latency_s + options.fault_latency_s,
            bytes_per_s=_one_after_the_other(caps.bytes_per_s, options.fault_bytes_per_s),
        )
        self._requests: Counter[tuple[str, str]] = Counter()
        self._mine: deque[str] = deque(maxlen=_VICTIMS)
        self._lock = threading.Lock()

    @property
    def caps(self) -> StorageCaps:
        """Those of the storage within, as its network makes them; but messages need checksums here, and what loses
        values keeps no run."""
        return self._caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        sent = self._cut(key, data)

        def store() -> bool:
            self._network.move([size_of(sent)])
            stored = self.inner.put(key, sent, if_absent=if_absent, ttl_s=ttl_s)
            if stored:
                self._evict(key)
            return stored

        return self._request("put", [key], store)

    def get(self, key: str) -> Buffer:
        return self._request("get", [key], lambda: self._fetch([key], lambda: {key: self.inner.get(key)}))[key]

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)

        def remove() -> None:
            self._network.move([0] if keys else [])  # one request, as of services that take many keys
            self.inner.delete(keys)

        self._request("delete", keys, remove)

    def list(self, prefix: str) -> Iterator[str]:
        def names() -> list[str]:
            self._network.move([0])
            return [*self.inner.list(prefix)]

        return iter(self._request("list", [prefix], names))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        sent = {key: self._cut(key, data) for key, data in items.items()}

        def store() -> Collection[str]:
            stored: list[str] = []
            for batch in self._network.batches([*sent]):
                self._network.move([size_of(sent[key]) for key in batch])
                some = {key: sent[key] for key in batch}
                stored += self.inner.put_many(some, if_absent=if_absent, ttl_s=ttl_s)
            for key in stored:
                self._evict(key)
            return stored

        return self._request("put", [*items], store)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        if self.caps.blocks and keys:
            return self._request("get", keys, lambda: self._wait(keys, wait_s))

        def fetch() -> Mapping[str, Buffer]:
            found: dict[str, Buffer] = {}
            for batch in self._network.batches(keys):
                found |= self._fetch(batch, functools.partial(self.inner.get_many, batch))
            return found

        return self._request("get", keys, fetch)

    def _fetch(self, asked: Sequence[str], get: Callable[[], Mapping[str, Buffer]]) -> Mapping[str, Buffer]:
        """What ``get`` brings, after the time for a request per key."""
        found: Mapping[str, Buffer] = {}
        try:
            found = get()
        finally:
            self._network.move([*(size_of([data]) for data in found.values()), *[0] * (len(asked) - len(found))])
        return found

    def _wait(self, keys: Sequence[str], wait_s: float) -> Mapping[str, Buffer]:
        """Each connection waits for a value of its own: what appears while the first is on its way sets out as well."""
        network, began_s = self._network, time.monotonic()
        found = more = dict(self.inner.get_many(keys, wait_s=wait_s))
        if not found:
            network.sleep_until(began_s + network.latency_s)  # a latency is part of any wait
            return found
        end_s = first_s = network.begin(size_of([data]) for data in found.values())
        while more and len(found) < min(len(keys), network.connections) and time.monotonic() < first_s:
            missing = [key for key in keys if key not in found]
            more = dict(self.inner.get_many(missing, wait_s=max(0.0, first_s - time.monotonic())))
            end_s = max(end_s, network.begin(size_of([data]) for data in more.values()))
            found |= more
        network.sleep_until(end_s)
        return found

    def _request(self, kind: str, keys: Sequence[str], make: Callable[[], T]) -> T:
        """Make a request, which counts by its first key, with the faults that are its turn."""
        o, key = self._options, keys[0] if keys else ""
        with self._lock:
            self._requests[kind, key] += 1
        if self._chance("delay", kind, key) < o.fault_delay:
            time.sleep(o.fault_delay_s)
        answer = make()
        if self._chance("duplicate", kind, key) < o.fault_duplicate:
            answer = make()
        if self._chance("lost", kind, key) < o.fault_lost:
            raise StorageUnavailable(f"the answer to a {kind} of {key or 'nothing'} was lost: a fault as asked for")
        return answer

    def _cut(self, key: str, data: Parts) -> Parts:
        """The value, or only its start."""
        if self._chance("truncate", "put", key) >= self._options.fault_truncate:
            return data
        value = b"".join(data)
        return [value[: int(len(value) * self._chance("length", "put", key))]]

    def _evict(self, key: str) -> None:
        """Delete a value that this client stored before this one, if it is time for that."""
        with self._lock:
            older = [mine for mine in self._mine if mine != key]
            self._mine.append(key)
        if older and self._chance("evict", "put", key) < self._options.fault_evict:
            self.inner.delete([older[int(len(older) * self._chance("victim", "put", key))]])

    def _chance(self, fault: str, kind: str, key: str) -> float:
        """Uniform in [0, 1)."""
        text = f"{self._options.fault_seed}/{fault}/{kind}/{key}/{self._requests[kind, key]}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


class _Network:
    """Connections, each of which takes its time for one request after the other, whoever makes them."""

    def __init__(self, options: FaultOptions, parallel: int) -> None:
        self.connections = options.fault_parallel or parallel
        self.latency_s, self._bytes_per_s = options.fault_latency_s, options.fault_bytes_per_s
        self._is_there = bool(options.fault_parallel or self.latency_s or self._bytes_per_s)
        self._free_s = [0.0] * self.connections  # when each has ended what it has to do: a heap
        self._lock = threading.Lock()

    def batches(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """The keys whose requests are under way together."""
        together = self.connections if self._is_there else max(1, len(keys))
        return [keys[first : first + together] for first in range(0, len(keys), together)]

    def move(self, sizes: Sequence[int]) -> None:
        """Sleep until requests of so many bytes have been made, each on the connection that is free first."""
        self.sleep_until(self.begin(sizes))

    def begin(self, sizes: Iterable[int]) -> float:
        """Make these requests from now on. Returns when the last of them ends."""
        now_s = end_s = time.monotonic()
        with self._lock:
            for size in sizes:
                took_s = self.latency_s + (size / self._bytes_per_s if self._bytes_per_s else 0.0)
                free_s = max(now_s, self._free_s[0]) + took_s
                heapq.heapreplace(self._free_s, free_s)
                end_s = max(end_s, free_s)
        return end_s

    def sleep_until(self, end_s: float) -> None:
        """Sleep, if that is yet to come."""
        left_s = end_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)


def _one_after_the_other(*bytes_per_s: float) -> float:
    """The bandwidth of what passes through several, those left out that state none; 0 where none does."""
    seconds = sum(1 / each for each in bytes_per_s if each)
    return 1 / seconds if seconds else 0.0


class FaultStorage(Fault):
    """The layer as a plugin.

    Args:
        url: of the layer: ``fault+`` before the scheme of the storage within.
        inner: that storage.
    """

    def __init__(self, url: StorageURL, options: FaultOptions, inner: Reference) -> None:
        super().__init__(Complete(inner.build(url.inner())), options)
