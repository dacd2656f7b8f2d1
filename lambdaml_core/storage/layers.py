"""Layers: storages made of storages. :class:`Complete` is at the bottom: all others see one full interface."""

from __future__ import annotations

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


class FullStorage(Storage, SupportsList, SupportsMany, SupportsViews, Protocol):
    """Every method there is: what :func:`lambdaml_core.storage.open_storage` returns."""


class Complete(FullStorage):
    """Completes an author's storage: what it does not support is made from what it does.

    ``get_many`` of a storage that does not block returns at once whatever ``wait_s`` is: who waits owns the pauses.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        # found out once: isinstance with a protocol costs more than a request on a local storage
        self._lists = inner if isinstance(inner, SupportsList) else None
        self._many = inner if isinstance(inner, SupportsMany) else None
        self._views = inner if isinstance(inner, SupportsViews) else None

    @property
    def caps(self) -> StorageCaps:
        return self._inner.caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return self._inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        return self._inner.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._inner.delete(keys)

    def close(self) -> None:
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
        return [k for k, data in items.items() if self._inner.put(k, data, if_absent=if_absent, ttl_s=ttl_s)]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        if self._many is not None:
            return self._many.get_many(keys, wait_s=wait_s)
        found: dict[str, Buffer] = {}
        for key in keys:
            try:
                found[key] = self._inner.get(key)
            except KeyNotFound:
                continue
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

    def intact(self, key: str, data: Buffer) -> bool:
        return self.inner.intact(self._prefix + key, data)


@dataclass
class Counts:
    """Requests by class (one per key) and bytes of values moved."""

    put: int = 0
    get: int = 0
    delete: int = 0
    list: int = 0
    sent: int = 0
    received: int = 0
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
        self.counts.add(put=1, sent=_size(data))
        return self.inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s)

    def get(self, key: str) -> Buffer:
        self.counts.add(get=1)
        data = self.inner.get(key)
        self.counts.add(received=_size([data]))
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
        self.counts.add(put=len(items), sent=sum(map(_size, items.values())))
        return self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        found = self.inner.get_many(keys, wait_s=wait_s)
        requests = len(found) if self.caps.blocks else len(keys)
        self.counts.add(get=requests, received=_size(list(found.values())))
        return found


def _size(parts: Parts) -> int:
    return sum(p.nbytes if isinstance(p, memoryview) else len(p) for p in parts)
