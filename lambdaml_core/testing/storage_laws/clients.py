"""What all storage laws have in common: two clients of one empty store, and bytes to put there."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import ClassVar, NoReturn, TypeAlias

import pytest

from lambdaml_core.errors import NotSupported
from lambdaml_core.storage import build_storage, storage_reference
from lambdaml_core.storage.base import Storage, StorageCaps
from lambdaml_core.storage.layers import Complete, FullStorage, Prefix
from lambdaml_core.testing.base import Laws

Connect: TypeAlias = Callable[[], FullStorage]


class TwoClients(Laws):
    """The fixtures that the laws are written with. An author gives ``url``; the others are made from it."""

    patience_s: ClassVar[float] = 30.0
    """Seconds after which a wait counts as hung. Correct storages never come near it."""

    @pytest.fixture
    def url(self) -> str:
        """A URL, as in a job, of a place that is empty when the test starts."""
        no_url(self, TwoClients, "connect")

    @pytest.fixture
    def prefix(self) -> str:
        """Words that all keys of a test begin with, for a place that is not empty; another one for each test."""
        return ""

    @pytest.fixture
    def connect(self, url: str, prefix: str) -> Callable[[], Storage]:
        """A function that builds a new client, always of one store that is empty when the test starts."""
        reference = storage_reference(url)
        if prefix:
            return lambda: Prefix(Complete(build_storage(url, reference)), prefix)
        return lambda: build_storage(url, reference)

    @pytest.fixture
    def client(self, connect: Callable[[], Storage]) -> Iterator[Connect]:
        """As ``connect``, with the missing methods completed; closes what it opened when the test ends."""
        with contextlib.ExitStack() as stack:

            def opened() -> FullStorage:
                storage: FullStorage = Complete(connect())
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


def no_url(suite: Laws, base: type[Laws], instead: str) -> NoReturn:
    """What the fixture ``url`` of ``base`` does where nobody overrides it: laws that need it skip, visibly, if the
    author has overridden the fixture ``instead``."""
    if inspect.getattr_static(suite, instead) is vars(base)[instead]:
        pytest.fail("give your storage to the laws: override the fixture `url`")
    pytest.skip(f"needs the fixture `url`: there is only `{instead}`")


def need(declared: bool, capability: str) -> None:
    """Skip, visibly, a law about something that the storage does not promise."""
    if not declared:
        pytest.skip(f"{capability} not declared")
