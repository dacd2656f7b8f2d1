"""Trying again: a lost answer or a short outage ends no worker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import FullStorage, Layer

T = TypeVar("T")

DEADLINE_S = 30.0
"""How long a request is tried again before its error is raised."""

FIRST_S = 1.0
"""The same for whoever only wants to look: a storage that has never answered for so long cannot be reached."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 2.0


class Retry(Layer):
    """Makes a request again when the storage was not available, after pauses with full jitter, until a deadline.

    A create whose answer was lost may have succeeded, and the second try finds what the first has stored: so where a
    create stores nothing, the bytes that are there decide whether they are this caller's. Pauses are random between 0
    and a bound that doubles, since what came too much at once must not come back at once
    (M. Brooker, "Exponential Backoff And Jitter", 2015).

    Args:
        first_s: how long requests are tried again as long as none has been answered.
        interrupt: called before each further try; may raise to leave.
    """

    def __init__(
        self,
        inner: FullStorage,
        deadline_s: float = DEADLINE_S,
        *,
        first_s: float | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(inner)
        self._deadline_s, self._interrupt = deadline_s, interrupt
        self._patience_s = deadline_s if first_s is None else first_s

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        stored = self._do(lambda: self.inner.put(key, data, if_absent=if_absent, ttl_s=ttl_s))
        return stored or bool(self._there({key: data}))

    def get(self, key: str) -> Buffer:
        return self._do(lambda: self.inner.get(key))

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._do(lambda: self.inner.delete(keys))

    def list(self, prefix: str) -> Iterator[str]:
        # to its end within the try: a service may fail at any of its pages
        return iter(self._do(lambda: [*self.inner.list(prefix)]))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        stored = self._do(lambda: self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s))
        if len(stored) == len(items):
            return stored
        return [*stored, *self._there({key: data for key, data in items.items() if key not in stored})]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        if wait_s <= 0:
            return self._do(lambda: self.inner.get_many(keys))
        end = time.monotonic() + wait_s
        return self._do(lambda: self.inner.get_many(keys, wait_s=max(0.0, end - time.monotonic())))

    def _do(self, request: Callable[[], T]) -> T:
        try:
            answer = request()
        except StorageUnavailable as e:
            answer = self._do_again(request, e)
        self._patience_s = self._deadline_s
        return answer

    def _do_again(self, request: Callable[[], T], error: StorageUnavailable) -> T:
        patience_s = self._patience_s
        end = time.monotonic() + patience_s
        longest_s = _FIRST_PAUSE_S
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(left_s, random.uniform(0, longest_s)))  # noqa: S311  (no secret)
            longest_s = min(2 * longest_s, _LONGEST_PAUSE_S)
            if self._interrupt is not None:
                self._interrupt()
            try:
                return request()
            except StorageUnavailable as e:
                error = e
        raise StorageUnavailable(
            f"{error.message} (tried again for {patience_s:g} s)",
            hint=error.hint or "see whether the storage runs and can be reached",
        ) from error

    def _there(self, items: Mapping[str, Parts]) -> Collection[str]:
        """The keys whose values are these."""
        found = self.get_many(list(items))
        return [key for key, data in items.items() if key in found and bytes(found[key]) == b"".join(data)]
