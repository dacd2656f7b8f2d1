"""Files as shared memory: mappings that are kept by inode, and deleted files kept for new values of the same size.

A fresh page costs a fault and a zeroing, several times the copy into it. A recycled file has its pages, and a kept
mapping has them in this process's page table, so that a value moves at the speed of memory.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import stat
import threading
import time
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence

from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.unfinished import ATTEMPTS, OwnFolder, disappearing, make_folder

MAPPED_BYTES = 64 << 10
"""Values from this size on are mapped and recycled; smaller ones are cheaper to read and to make anew."""

_Identity = tuple[int, int]
"""Inode and modification time in ns, which only rises with each value that a file holds."""


class Mappings:
    """Mappings of whole files by inode, the most recently used up to a number of bytes.

    While a mapping lives the kernel cannot give its inode number to another file.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_inode: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        # by id, since hashing a view reads all its bytes; the reference takes the entry away with the view
        self._viewed: dict[int, tuple[weakref.ref[memoryview], _Identity]] = {}

    def read(self, path: str) -> Buffer:
        """The file's bytes: a copy of a small one, a read-only view of a large one. Raises OSError."""
        size = os.stat(path).st_size
        if size >= MAPPED_BYTES:
            return self._view(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, MAPPED_BYTES)
        finally:
            os.close(fd)
        return data if len(data) < MAPPED_BYTES else self._view(path)  # overwritten by a larger one meanwhile

    def intact(self, path: str, data: Buffer) -> bool:
        """Whether ``path`` still is the file that ``data`` is a view of, and holds the same value in it."""
        viewed = self._viewed.get(id(data))
        if viewed is None:  # a copy; or a slice of a view, of which nothing is known
            return not (isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap))
        try:
            return _identity(os.stat(path)) == viewed[1]
        except OSError:
            return False

    def fill(self, path: str, parts: Sequence[memoryview], size: int, sync: bool) -> bool:
        """Overwrite a file of the same number of pages with ``parts``; False if it has another number."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if _pages(status.st_size) != _pages(size):
                return False  # a hole could not be filled through a mapping if the file system were full
            if status.st_size != size:
                os.ftruncate(fd, size)
            view = memoryview(self._map(fd, status.st_ino, size, mmap.PROT_READ | mmap.PROT_WRITE))
            at = 0
            for part in parts:
                view[at : at + part.nbytes] = part
                at += part.nbytes
            now = time.time_ns()
            os.utime(fd, ns=(now, max(now, status.st_mtime_ns + 1)))  # another value than before, whoever looks
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        """Forget all mappings; views of them stay valid."""
        with self._lock:
            self._by_inode.clear()
            self._bytes = 0

    def _view(self, path: str) -> memoryview:
        status = os.stat(path)
        mapping = self._known(status.st_ino, status.st_size)
        if mapping is None:
            try:
                fd, access = os.open(path, os.O_RDWR | os.O_CLOEXEC), mmap.PROT_READ | mmap.PROT_WRITE
            except PermissionError:
                fd, access = os.open(path, os.O_RDONLY | os.O_CLOEXEC), mmap.PROT_READ
            try:
                status = os.fstat(fd)
                mapping = self._map(fd, status.st_ino, status.st_size, access)
            finally:
                os.close(fd)
        view = memoryview(mapping)[: status.st_size].toreadonly()
        number = id(view)
        forget = weakref.ref(view, lambda _: self._viewed.pop(number, None))
        self._viewed[number] = (forget, _identity(status))
        return view

    def _known(self, inode: int, size: int) -> mmap.mmap | None:
        with self._lock:
            mapping = self._by_inode.get(inode)
            if mapping is None or len(mapping) < size:
                return None
            self._by_inode.move_to_end(inode)
            return mapping

    def _map(self, fd: int, inode: int, size: int, access: int) -> mmap.mmap:
        mapping = self._known(inode, size)
        if mapping is not None:
            return mapping
        mapping = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=access)
        with self._lock:
            old = self._by_inode.pop(inode, None)
            self._by_inode[inode] = mapping
            self._bytes += size - (len(old) if old is not None else 0)
            while self._bytes > self._limit and self._by_inode:
                self._bytes -= len(self._by_inode.popitem(last=False)[1])
        return mapping


class RecyclingPool:
    """Writes values into files, recycled ones where there are any, for this and all other clients of a directory.

    A folder of its own holds files being written (``unfinished.py``), ``root/.pool/<pages>`` deleted ones of all
    clients. A file is claimed by renaming it, so that exactly one client gets it.

    Args:
        sync: files are on the disk before they are given names that others look at.
    """

    def __init__(self, root: str, maps: Mappings, limit: int, sync: bool) -> None:
        self._own = OwnFolder(root)
        self._pool = f"{root}/.pool"
        self._maps = maps
        self._limit = limit
        self._sync = sync
        self._number = itertools.count()
        self._mine: dict[int, deque[str]] = defaultdict(deque)  # what this client put into the pool, by pages
        self._held = 0

    def write(self, parts: Sequence[memoryview]) -> str:
        """The path of a file that holds the concatenation of ``parts`` and has no name yet that others look at.

        Raises:
            OSError: no room, no permission; nothing is left behind.
        """
        self._own.take()
        size = sum(part.nbytes for part in parts)
        if size >= MAPPED_BYTES and self._limit:
            path = self._claim(_pages(size))
            if path is not None:
                if self._maps.fill(path, parts, size, self._sync):
                    return path
                os.unlink(path)
        return self._create(parts)

    def recycle(self, path: str) -> None:
        """Take the file away from ``path``, and keep it for new values if it is worth it.

        Raises:
            FileNotFoundError: somebody else has taken it.
        """
        status = os.stat(path)
        size = status.st_size
        # with a second name, its writer is between link and unlink: not ours to reuse
        if (
            size < MAPPED_BYTES
            or self._held + size > self._limit
            or status.st_nlink != 1
            or stat.S_ISDIR(status.st_mode)
        ):
            os.unlink(path)
            return
        self._own.take()  # the sign that its token in the pool is that of a living process
        pages = _pages(size)
        name = f"{self._pool}/{pages}/{self._own.token}-{next(self._number)}"
        for _ in range(ATTEMPTS):
            try:
                os.rename(path, name)
                break
            except FileNotFoundError:
                os.stat(path)  # raises if it is the file that is gone
                make_folder(f"{self._pool}/{pages}")
        else:
            os.unlink(path)
            return
        self._mine[pages].append(name)
        self._held += size

    def close(self) -> None:
        """Give back the memory of what this client recycled and nobody has claimed, and of what killed ones left."""
        for names in self._mine.values():
            for name in names:
                with contextlib.suppress(OSError):
                    os.unlink(name)
        folders = [f"{self._pool}/{pages}" for pages in self._mine]
        self._mine.clear()
        self._held = 0
        for folder in folders:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        self._own.close()

    def _claim(self, pages: int) -> str | None:
        mine = self._mine[pages]
        while mine:
            name = mine.popleft()
            self._held -= pages * mmap.PAGESIZE
            path = self._rename(name)
            if path is not None:
                return path
        try:
            others = [entry.path for entry in os.scandir(f"{self._pool}/{pages}")]
        except OSError:
            return None
        return next(filter(None, map(self._rename, others)), None)

    def _rename(self, name: str) -> str | None:
        path = self._fresh_name()
        try:
            os.rename(name, path)
        except FileNotFoundError:
            return None
        return path

    def _fresh_name(self) -> str:
        return f"{self._own.path}/{next(self._number)}"

    def _create(self, parts: Sequence[memoryview]) -> str:
        path = self._fresh_name()
        fd = self._open_new(path)
        try:
            _write_all(fd, parts)
            if self._sync:
                os.fsync(fd)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        return path

    def _open_new(self, path: str) -> int:
        for _ in range(ATTEMPTS):
            try:
                return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                self._own.take_again()
        raise disappearing(path)


def _write_all(fd: int, parts: Sequence[memoryview]) -> None:
    left = [part for part in parts if part.nbytes]
    while left:
        written = os.writev(fd, left[:512])
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if written:
            left[0] = left[0][written:]


def _identity(status: os.stat_result) -> _Identity:
    return status.st_ino, status.st_mtime_ns


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE)
