"""Ctrl-C and SIGTERM: an exception where work can be left anywhere, a note where it must be ended in order."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Use as a context manager around a run. In a thread that is not the main one it does nothing.

    The first of them raises KeyboardInterrupt unless :meth:`defer` is called before; all others are only noted, so that
    none can come between starting a worker and knowing of it, or between two steps of cleaning up.
    """

    def __init__(self) -> None:
        self._noted = self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From now on, only note."""
        self._deferred = True

    def check(self) -> None:
        """Raise KeyboardInterrupt once for what has been noted."""
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._deferred:
            self._noted = True
            return
        self._deferred = True
        raise KeyboardInterrupt
