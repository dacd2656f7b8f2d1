"""Several requests at once, for services that answer one only after a while."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


class Parallel:
    """Threads that help with requests; there are none before the first call that has more than one.

    Args:
        most: requests under way at once for one caller, who makes its share of them itself.
    """

    def __init__(self, most: int) -> None:
        self._helpers = most - 1
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    def map(self, work: Callable[[A], T], items: Sequence[A]) -> list[T]:
        """``work`` of each item, in any order; the results in theirs.

        Raises:
            BaseException: the first that ``work`` raised. Nothing is begun after it, and what was has ended by then.
        """
        left = deque(enumerate(items))
        results: dict[int, T] = {}
        errors: list[BaseException] = []

        def run() -> None:
            while left and not errors:
                try:
                    index, item = left.popleft()
                except IndexError:  # another thread was quicker
                    return
                try:
                    results[index] = work(item)
                except BaseException as e:  # noqa: BLE001 - raised below
                    errors.append(e)

        helpers = self._start(run, len(items) - 1)
        run()
        wait([helper for helper in helpers if not helper.cancel()])
        if errors:
            raise errors[0]
        return [results[index] for index in range(len(items))]

    def close(self) -> None:
        """End the threads once they have nothing to do. Later calls make their requests one by one."""
        with self._lock:
            self._closed = True
            if self._pool is not None:
                self._pool.shutdown(wait=False)

    def _start(self, run: Callable[[], None], count: int) -> list[Future[None]]:
        count = min(count, self._helpers)
        with self._lock:
            if count < 1 or self._closed:
                return []
            self._pool = self._pool or ThreadPoolExecutor(self._helpers, thread_name_prefix="storage")
            return [self._pool.submit(run) for _ in range(count)]
