"""Deleting what is done with, so that nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lambdaml_core.storage.layers import FullStorage

_NEAR_S = 25e-6  # a request that takes no longer is not worth putting off
_FAR_S = 1e-3  # who answers only after so long is worth a thread
_TOGETHER = 64  # keys
_FAR_BYTES = 16 << 20  # of values that may wait for others
_BYTES = 1 << 20  # the same of a server on this host: larger ones are in the caches, and should be used again


class Deletes:
    """Deletes at once where that takes no time, which also gives memory back soonest; else many together, and in a
    thread where a request takes long.

    A delete may come late, since no key is used again: what it is of is done with.
    """

    def __init__(self, channel: FullStorage) -> None:
        caps = channel.caps
        self._channel = channel
        self._far = caps.scope == "network" or caps.latency_s >= _FAR_S
        self._near = not self._far and caps.latency_s <= _NEAR_S
        self._left: list[str] = []
        self._busy = False
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def add(self, keys: Sequence[str], value_bytes: int) -> None:
        """Delete these some time.

        Args:
            value_bytes: of each of their values, more or less: large ones are deleted sooner.

        Raises:
            Exception: what an earlier delete raised.
        """
        if self._near:
            self._channel.delete(keys)
            return
        waiting_bytes = _FAR_BYTES if self._far else _BYTES
        with self._lock:
            self._left += keys
            self._raise()
            if self._busy or len(self._left) < min(_TOGETHER, waiting_bytes // (value_bytes + 1)):
                return
            self._busy, keys = True, [*self._left]
        if not self._far:
            self._work(keys)
            self._raise()
            return
        self._thread = threading.Thread(target=self._work, args=(keys,), name="deletes", daemon=True)
        self._thread.start()

    def left(self) -> list[str]:
        """What has not been deleted, once nothing is being deleted."""
        if self._thread is not None:
            self._thread.join()
        return list(self._left)

    def close(self) -> None:
        """Delete what is left, and wait for it. What could not be deleted before is tried once more.

        Raises:
            Exception: what a delete raised.
        """
        if keys := self.left():
            self._work(keys)
        self._raise()

    def _work(self, keys: Sequence[str]) -> None:
        """Delete the first of those that are left, which they are until it is done."""
        error: Exception | None = None
        try:
            self._channel.delete(keys)
        except Exception as e:  # noqa: BLE001 - raised to who deletes next
            error = e
        with self._lock:
            if error is None:
                del self._left[: len(keys)]
            self._error, self._busy = error, False

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
