"""Where a client of a directory keeps files that are no values yet, and who removes those of a client that was killed.

Each client writes in a folder of its own below ``root/.new``, on which it holds a lock (flock). The kernel gives the
lock back when the process ends, however it ends: whoever gets it knows that what is in the folder is nobody's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
import weakref

ATTEMPTS = 100
"""How often to make a folder again that another client's close has removed before it was used."""


def make_folder(folder: str) -> None:
    """Make a folder and those above it. Another client's close may remove it again: use it in a loop."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = folder.rpartition("/")[0] or "/"
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.mkdir(each, 0o700)


def disappearing(path: str) -> OSError:
    """Others remove a folder as often as it is made."""
    return OSError(errno.EBUSY, "its folder keeps disappearing", path)


class OwnFolder:
    """The folder of one client: ``path``, which is ``root/.new/token``, and nobody else's from :meth:`take` on."""

    def __init__(self, root: str) -> None:
        self.token = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.path = f"{root}/.new/{self.token}"
        self._root = root
        self._release: weakref.finalize[[int], OwnFolder] | None = None
        self._lock = threading.Lock()

    def take(self) -> None:
        """Make and lock it, if that has not been done. Raises OSError."""
        if self._release is not None:
            return
        with self._lock:
            for _ in range(ATTEMPTS):
                if self._release is None and (fd := _locked(self.path)) is not None:
                    self._release = weakref.finalize(self, os.close, fd)
                if self._release is not None:
                    return
        raise disappearing(self.path)

    def take_again(self) -> None:
        """After a file could not be made in it: somebody may have emptied the whole directory."""
        with self._lock:
            if self._release is not None and not os.path.isdir(self.path):
                self._release()
                self._release = None
        self.take()

    def close(self) -> None:
        """Remove it, and all that clients which live no more have left."""
        with self._lock:
            if self._release is not None:
                _remove_folder(self.path)
                self._release()
                self._release = None
        _sweep(self._root)


def _locked(path: str) -> int | None:
    """A descriptor of the folder, with its lock; None = somebody took it for a dead client's before it was locked."""
    make_folder(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # a file system without locks: then nobody gets one, and nothing is swept
        fcntl.flock(fd, fcntl.LOCK_EX)
    if os.path.isdir(path) and os.fstat(fd).st_ino == os.stat(path).st_ino:
        return fd
    os.close(fd)
    return None


def _sweep(root: str) -> None:
    """Remove the folders that nobody locks, and the files that their clients had put aside for new values."""
    for name in _names(f"{root}/.new"):
        path = f"{root}/.new/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for pages in _names(f"{root}/.pool"):
                for left in _names(f"{root}/.pool/{pages}"):
                    if left.startswith(name):
                        _unlink(f"{root}/.pool/{pages}/{left}")
                _remove_empty(f"{root}/.pool/{pages}")
            _remove_folder(path)
        except OSError:
            continue
        finally:
            os.close(fd)
    for folder in (f"{root}/.pool", f"{root}/.new"):
        _remove_empty(folder)


def _remove_folder(path: str) -> None:
    for name in _names(path):
        _unlink(f"{path}/{name}")
    _remove_empty(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _remove_empty(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)
