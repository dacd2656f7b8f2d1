"""Waiting for a file to appear in a directory without a busy loop: inotify, and a back-off where there is none."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import sys
import time
import weakref
from typing import Protocol

_CREATE, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x100, 0x80, 0x400, 0x800
_Q_OVERFLOW, _IGNORED = 0x4000, 0x8000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 64 << 10
_BLIND_S = 0.005  # between looks at a folder that cannot be watched


class Watcher(Protocol):
    """Wakes one thread when a name appears in a watched directory."""

    def watch(self, directory: str) -> bool:
        """Watch a directory from now on. Returns whether that is new; raises FileNotFoundError if there is none."""

    def wait(self, seconds: float) -> set[str] | None:
        """Paths that appeared since the last call; blocks until one does, at most ``seconds``.

        None = look at everything again: names were missed, or this watcher cannot tell.
        """


class InotifyWatcher:
    """inotify (7) through libc: the kernel wakes the waiter; nothing is polled."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        weakref.finalize(self, os.close, self._fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._number: dict[str, int] = {}
        self._directory: dict[int, str] = {}
        self._blind = False  # the user's watches ran out: some folder has none

    def watch(self, directory: str) -> bool:
        if directory in self._number:
            return False
        mask = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), mask)
        if number < 0:
            code = ctypes.get_errno()
            if code == errno.ENOSPC:
                self._blind = True
                return True
            raise OSError(code, os.strerror(code), directory)
        self._number[directory] = number
        self._directory[number] = directory
        return True

    def wait(self, seconds: float) -> set[str] | None:
        if self._blind:
            seconds = min(seconds, _BLIND_S)
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return None if self._blind else set()
        appeared = self._read()
        return None if self._blind else appeared

    def _read(self) -> set[str] | None:
        data, at, missed = os.read(self._fd, _BUFFER_BYTES), 0, False
        appeared: set[str] = set()
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & (_CREATE | _MOVED_TO) and number in self._directory:
                appeared.add(f"{self._directory[number]}/{os.fsdecode(name)}")
            elif mask & (_DELETE_SELF | _MOVE_SELF | _IGNORED | _Q_OVERFLOW):
                self._forget(number)
                missed = True
        return None if missed else appeared

    def _forget(self, number: int) -> None:
        directory = self._directory.pop(number, None)
        if directory is not None:
            self._number.pop(directory, None)
            with contextlib.suppress(OSError):
                self._libc.inotify_rm_watch(self._fd, number)


class PollingWatcher:
    """Looks again after pauses that grow from 0.2 to 10 ms: other systems, and where inotify instances ran out."""

    def __init__(self) -> None:
        self._pause = 0.0

    def watch(self, directory: str) -> bool:
        self._pause = 0.0
        os.stat(directory)  # (raises FileNotFoundError, as inotify does)
        return True

    def wait(self, seconds: float) -> set[str] | None:
        self._pause = min(0.01, max(0.0002, self._pause * 1.5))
        time.sleep(max(0.0, min(seconds, self._pause)))
        return None


def make_watcher() -> Watcher:
    """The best watcher there is on this system for the calling thread."""
    if sys.platform == "linux":
        try:
            return InotifyWatcher()
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOSYS):
                raise
    return PollingWatcher()
