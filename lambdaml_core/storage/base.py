"""The storage contract: what LambdaML asks of a place that all workers can reach.

A storage author implements :class:`Storage` and whichever of the ``Supports...`` protocols the service is good at;
:func:`lambdaml_core.storage.open_storage` completes the rest, so that everything above sees a
:class:`~lambdaml_core.storage.layers.FullStorage`. The laws are in ``lambdaml_core.testing.storage``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes."""

Parts: TypeAlias = Sequence[Buffer]
"""A gather list: the value is the concatenation, so that a header and a payload leave without being joined."""


@dataclass(frozen=True, kw_only=True)
class StorageCaps:
    """What a storage promises, with numbers. A plan is refused before launch when it needs more than this.

    Attributes:
        scope: who sees a value: threads of one ``process``, processes of one ``host``, or the ``network``.
        max_value_bytes: largest value in bytes; None = bounded by free space only.
        piece_bytes: bytes at a time that values move quickest in; None = any. Messages of collectives are cut to it.
        max_key_bytes: longest key in bytes of UTF-8.
        parallel: how many requests at once are worth making from one client.
        creates_once: ``put(if_absent=True)`` is atomic: exactly one of any number of racing clients creates.
            Without it a storage cannot be a channel.
        blocks: ``get_many`` waits inside the storage; without it the engine fetches again with back-off.
        expires: ``ttl_s`` is honoured.
        durable: values outlive the processes and the service's restart. Without it a storage cannot be a store.
        evicts: the service may drop values of its own accord (a cache).
        checksums: readers should verify the checksum of a message (needless within one host).
        latency_s: typical seconds of one small request; 0 = not stated.
        bytes_per_s: typical bandwidth of one request in bytes per second, ``parallel`` of which may be under way;
            0 = not stated.
        usd: US dollars per request, by class: ``put``, ``get``, ``delete``, ``list``; and per byte of values
            ``sent`` and ``received``, where size is charged too. What is left out costs nothing.
    """

    scope: Literal["process", "host", "network"]
    max_value_bytes: int | None = None
    piece_bytes: int | None = None
    max_key_bytes: int = 250
    parallel: int = 1
    creates_once: bool = False
    blocks: bool = False
    expires: bool = False
    durable: bool = False
    evicts: bool = True
    checksums: bool = True
    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    usd: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Storage(Protocol):
    """A map from keys to immutable byte strings.

    Built as ``factory(url, options)``; does no I/O until used; safe to use from several threads; raises only
    :class:`~lambdaml_core.errors.StorageError` and its subclasses. Keys are slash-separated words of
    ``[A-Za-z0-9._-]`` with no empty, ``.`` or ``..`` part (see :func:`lambdaml_core.storage.check_key`). No key is the
    folder of another: where there is ``a/b``, a put of ``a`` may be refused with a ``StorageError``, and the reverse.
    """

    @property
    def caps(self) -> StorageCaps:
        """What this storage promises. A class attribute where it does not depend on the URL."""

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        """Store the concatenation of ``data`` under ``key``, whole or not at all.

        Args:
            if_absent: create only: a value that exists stays as it is.
            ttl_s: seconds after which the value may be dropped; ignored where ``caps.expires`` is false.

        Returns:
            True if the value was stored, False if ``if_absent`` and there was one already. Where that one is equal to
            this, either: after a lost acknowledgement nobody can tell them apart. Who must know puts a token in.

        Raises:
            ValueTooLarge, StorageFull, StorageDenied, StorageUnavailable: nothing was stored, except that after
                StorageUnavailable the value may have been stored (a lost acknowledgement).
        """

    def get(self, key: str) -> Buffer:
        """The value under ``key``; the buffer is the caller's (but see :class:`SupportsViews`).

        Raises:
            KeyNotFound: there is none.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these keys; those that do not exist are no error."""

    def close(self) -> None:
        """Give back connections and memory. Idempotent."""


@runtime_checkable
class SupportsList(Protocol):
    """Control plane only: no round of training lists anything. A store needs it."""

    def list(self, prefix: str) -> Iterator[str]:
        """Every key that starts with ``prefix`` (any string, not only whole words), in order."""


@runtime_checkable
class SupportsMany(Protocol):
    """Many keys in one round trip, and waiting that brings the values with it."""

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        """Like :meth:`Storage.put` for each item. Returns the keys that were stored."""

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        """The values of those keys that exist.

        If none exists, blocks until the first does, at most ``wait_s`` seconds, and returns what is there then.
        No keys are no reason to wait.
        """


@runtime_checkable
class SupportsViews(Protocol):
    """A storage whose ``get`` and ``get_many`` return views of memory that it reuses after a delete.

    Nothing is copied that can be viewed; in return a reader asks, after its last look at the bytes, whether they
    were the key's all along.
    """

    def intact(self, key: str, data: Buffer) -> bool:
        """Whether ``data``, which a get returned for ``key``, has held that value until now."""
