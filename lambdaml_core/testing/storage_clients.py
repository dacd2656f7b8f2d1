"""What all storage laws have in common: two clients of one empty store, and bytes to put there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar, TypeAlias

import pytest

from lambdaml_core.errors import NotSupported
from lambdaml_core.storage.base import Storage, StorageCaps
from lambdaml_core.storage.layers import Complete, FullStorage

Connect: TypeAlias = Callable[[], FullStorage]


class TwoClients:
    """The fixtures that the laws are written with. An author gives ``connect``; the others are made from it."""

    patience_s: ClassVar[float] = 30.0
    """Seconds after which a wait counts as hung. Correct storages never come near it."""

    @pytest.fixture
    def connect(self) -> Callable[[], Storage]:
        """A function that builds a new client, always to one store that is empty when the test starts."""
        raise NotImplementedError("give your storage to the laws: override the fixture `connect`")

    @pytest.fixture
    def client(self, connect: Callable[[], Storage]) -> Iterator[Connect]:
        """As ``connect``, with the missing methods completed; closes what it opened when the test ends."""
        with contextlib.ExitStack() as stack:

            def opened() -> FullStorage:
                storage = Complete(connect())
                stack.callback(storage.close)
                return storage

            yield opened

    @pytest.fixture
    def storage(self, client: Connect) -> FullStorage:
        """One client."""
        return client()

    @pytest.fixture
    def other(self, client: Connect) -> FullStorage:
        """Another client of the same store, as another worker has it."""
        return client()


def pattern(size: int, seed: int = 0) -> bytes:
    """``size`` bytes whose period of 251 no page, block or buffer size divides, so that swapped pieces show."""
    turn = seed % 251
    block = bytes(range(turn, 251)) + bytes(range(turn))
    return (block * (size // 251 + 1))[:size]


def fitting(caps: StorageCaps, *sizes: int) -> list[int]:
    """Those of ``sizes``, in bytes, that the storage takes."""
    return [size for size in sizes if caps.max_value_bytes is None or size <= caps.max_value_bytes]


def listed(storage: FullStorage, prefix: str) -> list[str]:
    """The keys with this prefix; skips the law for a storage that says it cannot list."""
    try:
        return list(storage.list(prefix))
    except NotSupported:
        pytest.skip("SupportsList not implemented: a channel, not a store")


def need(declared: bool, capability: str) -> None:
    """Skip, visibly, a law about something that the storage does not promise."""
    if not declared:
        pytest.skip(f"{capability} not declared")
