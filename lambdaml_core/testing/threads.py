"""Threads for laws about concurrency: they start at one moment, and none can hang a test run."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Hang(BaseException):
    """A law took longer than its limit. No ``Exception``, which plugins may catch, and Hypothesis tries once more."""


def together(*works: Callable[[], T], limit_s: float) -> list[T]:
    """Run all of ``works``, each in a thread of its own, starting at one moment; their results in order.

    Threads are switched as often as possible meanwhile, so that rare races become likely.

    Args:
        limit_s: seconds without the end of any of them after which they hang.

    Raises:
        BaseException: the first that one of them raised.
        Hang: with the stacks of all threads.
    """
    start = threading.Barrier(len(works))
    ended: queue.SimpleQueue[tuple[int, Future[T]]] = queue.SimpleQueue()

    def run(index: int) -> None:
        outcome = Future[T]()
        try:
            start.wait(limit_s)
            outcome.set_result(works[index]())
        except BaseException as e:  # noqa: BLE001 - raised again in the thread that waits
            outcome.set_exception(e)
        ended.put((index, outcome))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for index in range(len(works)):
            threading.Thread(target=run, args=(index,), daemon=True).start()
        results = dict(_next(ended, limit_s) for _ in works)
    finally:
        sys.setswitchinterval(interval)
    return [results[index] for index in range(len(works))]


def stacks() -> str:
    """Where all other threads are; nothing where there are none."""
    frames = sys._current_frames()
    others = [t for t in threading.enumerate() if t is not threading.current_thread() and t.ident in frames]
    return "\n".join(f"thread {t.name}:\n{''.join(traceback.format_stack(frames[t.ident or 0]))}" for t in others)


def _next(ended: queue.SimpleQueue[tuple[int, Future[T]]], limit_s: float) -> tuple[int, T]:
    try:
        index, outcome = ended.get(timeout=limit_s)
    except queue.Empty:
        raise Hang(
            f"no thread came back within {limit_s} s: something waits for ever, or longer than it was told\n{stacks()}"
        ) from None
    return index, outcome.result()
