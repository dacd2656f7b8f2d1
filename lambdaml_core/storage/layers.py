"""Layers: storages made of storages. :class:`Complete` is at the bottom: all others see one full interface."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from lambdaml_core.errors import KeyNotFound, NotSupported
from lambdaml_core.storage.base import (
    Buffer,
    Parts,
    Storage,
    StorageCaps,
    SupportsList,
    SupportsMany,
    SupportsViews,
)
from lambdaml_core.storage.parallel import Parallel

_DELETED_TOGETHER = 100  # keys that one delete takes at least: services take up to 1,000 in a request


class FullStorage(Storage, SupportsList, SupportsMany, SupportsViews, Protocol):
    """Every method there is: what :func:`lambdaml_core.storage.open_storage` returns."""

    def sweep(self, prefix: str = "", spare: Collection[str] = ()) -> None:
        """Delete every key that starts with ``prefix``, and whatever layers keep beside it, without reading any value.

        Args:
            spare: keys that stay.

        Raises:
            NotSupported: as ``list``.
        """
        self.delete([key for key in self.list(prefix) if key not in spare])


class Complete(FullStorage):
    """Completes an author's storage: what it does not support is made from what it does.

    Of a storage that does not take many keys at once, ``caps.parallel`` requests are under way at a time.
    ``get_many`` of a storage that does not block returns at once whatever ``wait_s`` is: who waits owns the pauses.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        # found out once: isinstance with a protocol costs more than a request on a local storage
        self._lists = inner if isinstance(inner, SupportsList) else None
        self._many = inner if isinstance(inner, SupportsMany) else None
        self._views = inner if isinstance(inner, SupportsViews) else None
        self._parallel = Parallel(inner.caps.parallel)

    @property
    def caps(self) -> StorageCaps:
        return self._inner.caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return self._inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        return self._inner.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        if self._many is not None:
            return self._inner.delete(keys)
        keys = list(keys)
        together = max(_DELETED_TOGETHER, -(-len(keys) // self.caps.parallel))
        batches = [keys[first : first + together] for first in range(0, len(keys), together)]
        self._parallel.map(self._inner.delete, batches)
        return None

    def close(self) -> None:
        self._parallel.close()
        self._inner.close()

    def list(self, prefix: str) -> Iterator[str]:
        """As :meth:`SupportsList.list`.

        Raises:
            NotSupported: this storage cannot list, so it can be a channel but not a store.
        """
        if self._lists is None:
            raise NotSupported(
                f"{type(self._inner).__name__} cannot list its keys", hint="use it as channel, with another store"
            )
        return self._lists.list(prefix)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        if self._many is not None:
            return self._many.put_many(items, if_absent=if_absent, ttl_s=ttl_s)
        keys = list(items)
        stored = self._parallel.map(
            lambda key: self._inner.put(key, items[key], if_absent=if_absent, ttl_s=ttl_s), keys
        )
        return [key for key, created in zip(keys, stored, strict=True) if created]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        if self._many is not None:
            return self._many.get_many(keys, wait_s=wait_s)
        found: dict[str, Buffer] = {}

        def get(key: str) -> None:
            with contextlib.suppress(KeyNotFound):
                found[key] = self._inner.get(key)

        self._parallel.map(get, keys)
        return found

    def intact(self, key: str, data: Buffer) -> bool:
        return self._views is None or self._views.intact(key, data)


class Layer(FullStorage):
    """Hands everything on; a layer overrides what it changes."""

    def __init__(self, inner: FullStorage) -> None:
        self.inner = inner

    @property
    def caps(self) -> StorageCaps:
        return self.inner.caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return self.inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        return self.inner.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def close(self) -> None:
        self.inner.close()

    def list(self, prefix: str) -> Iterator[str]:
        return self.inner.list(prefix)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        return self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        return self.inner.get_many(keys, wait_s=wait_s)

    def intact(self, key: str, data: Buffer) -> bool:
        return self.inner.intact(key, data)


class Prefix(Layer):
    """Everything under ``prefix/``: how runs stay apart from each other."""

    def __init__(self, inner: FullStorage, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix.rstrip("/") + "/"
        self._caps = replace(inner.caps, max_key_bytes=inner.caps.max_key_bytes - len(self._prefix))

    @property
    def caps(self) -> StorageCaps:
        """Those of the storage below, with room in a key for the prefix."""
        return self._caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return self.inner.put(self._prefix + key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        return self.inner.get(self._prefix + key)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete([self._prefix + key for key in keys])

    def list(self, prefix: str) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self.inner.list(self._prefix + prefix))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        stored = self.inner.put_many(
            {self._prefix + k: data for k, data in items.items()}, if_absent=if_absent, ttl_s=ttl_s
        )
        return [key.removeprefix(self._prefix) for key in stored]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        found = self.inner.get_many([self._prefix + key for key in keys], wait_s=wait_s)
        return {key.removeprefix(self._prefix): data for key, data in found.items()}

    def sweep(self, prefix: str = "", spare: Collection[str] = ()) -> None:
        self.inner.sweep(self._prefix + prefix, [self._prefix + key for key in spare])

    def intact(self, key: str, data: Buffer) -> bool:
        return self.inner.intact(self._prefix + key, data)


@dataclass
class Counts:
    """Requests by class (one per key) and bytes of values moved.

    Of the gets, ``missed`` found nothing, on a storage that does not block: what waiting for values has cost.
    """

    put: int = 0
    get: int = 0
    delete: int = 0
    list: int = 0
    sent: int = 0
    received: int = 0
    missed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **amounts: int) -> None:
        """Add to several counts at once; safe from any thread."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)


class Count(Layer):
    """Counts requests and bytes. A wait inside the storage is one request per value that it brings."""

    def __init__(self, inner: FullStorage, counts: Counts | None = None) -> None:
        super().__init__(inner)
        self.counts = counts or Counts()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self.counts.add(put=1, sent=size_of(data))
        return self.inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        self.counts.add(get=1)
        try:
            data = self.inner.get(key)
        except KeyNotFound:
            self.counts.add(missed=int(not self.caps.blocks))
            raise
        self.counts.add(received=size_of([data]))
        return data

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.counts.add(delete=len(keys))
        self.inner.delete(keys)

    def list(self, prefix: str) -> Iterator[str]:
        self.counts.add(list=1)
        return self.inner.list(prefix)

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self.counts.add(put=len(items), sent=sum(map(size_of, items.values())))
        return self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        found = self.inner.get_many(keys, wait_s=wait_s)
        requests = len(found) if self.caps.blocks else len(keys)
        self.counts.add(get=requests, missed=requests - len(found), received=size_of(list(found.values())))
        return found


def size_of(parts: Parts) -> int:
    """Bytes of a value."""
    return sum(p.nbytes if isinstance(p, memoryview) else len(p) for p in parts)
