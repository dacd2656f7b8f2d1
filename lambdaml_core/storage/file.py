"""``file:///directory``: one file per value, for processes of one machine.

Values appear by ``link`` or ``rename``, so they are whole or not there; waits sleep in the kernel (``notify.py``). On
tmpfs this is shared memory: a large value is written into, and read from, mappings that are kept, in files that are
recycled after a delete (``recycle.py``), since page faults would cost more than the copy itself. On a disk, a value is
there before its name is, and both before ``put`` returns, so that a crash of the machine leaves nothing half-written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lambdaml_core.builtin import FileOptions
from lambdaml_core.errors import (
    KeyNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    URLError,
)
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.notify import Watcher, make_watcher
from lambdaml_core.storage.recycle import Mappings, RecyclingPool
from lambdaml_core.storage.unfinished import ATTEMPTS, disappearing, make_folder
from lambdaml_core.storage.url import StorageURL

if TYPE_CHECKING:
    from lambdaml_core.findings import Finding

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_PASSING = (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_LONGEST_SLEEP_S = 1.0  # a wait looks again at least this often, whatever the kernel said


class FileStorage:
    """See the module. Store and channel both; a store belongs on a disk, a channel on tmpfs.

    Files and directories are made for their owner only (modes 0600 and 0700).
    """

    caps = StorageCaps(
        scope="host",
        creates_once=True,
        blocks=True,
        durable=True,
        evicts=False,
        checksums=False,
        latency_s=20e-6,
        bytes_per_s=5e9,
    )

    def __init__(self, url: StorageURL, options: FileOptions) -> None:
        if url.host or not url.path.startswith("/"):
            raise URLError(f"{url} must name an absolute directory", hint="write it as file:///directory")
        self._root = url.path.rstrip("/")
        self._maps = Mappings(limit=options.recycle_bytes)
        limit = options.recycle_bytes if options.recycle else 0
        self._pool = RecyclingPool(self._root, self._maps, limit, options.sync)
        self._sync = options.sync
        self._local = threading.local()
        self._emptied: set[str] = set()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        path = self._path(key)
        try:
            temporary = self._pool.write([memoryview(part).cast("B") for part in data])
            try:
                created = self._publish(temporary, path, if_absent)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            if not created:
                self._pool.recycle(temporary)
            elif self._sync:
                _sync_folder(path.rpartition("/")[0])
        except (NotADirectoryError, IsADirectoryError) as e:
            raise StorageDenied(f"{path}: {e.strerror}: {e.filename}", hint="choose another directory") from e
        except OSError as e:
            raise _typed(key, e) from e
        return created

    def get(self, key: str) -> Buffer:
        path = self._path(key)
        try:
            return self._maps.read(path)
        except OSError as e:
            raise _typed(key, e) from e

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            try:
                self._pool.recycle(path)
            except _ABSENT:
                continue
            except OSError as e:
                raise _typed(key, e) from e
            self._emptied.add(path.rpartition("/")[0])

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        return [key for key, data in items.items() if self.put(key, data, if_absent=if_absent)]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        wanted = {self._path(key): key for key in keys}
        found = self._present(wanted, wanted)
        if found or wait_s <= 0 or not keys:
            return found
        give_up = time.monotonic() + wait_s
        watcher = self._watcher()
        folders = {path.rpartition("/")[0] for path in wanted}
        appeared: Iterable[str] = ()
        while True:
            # a name may have come before its folder was watched; afterwards the watcher tells of each
            candidates = wanted if self._watch(folders, watcher) else appeared
            found = self._present(candidates, wanted)
            left = give_up - time.monotonic()
            if found or left <= 0:
                return found
            appeared = watcher.wait(min(left, _LONGEST_SLEEP_S)) or wanted

    def list(self, prefix: str) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        try:
            top = self._path(folder) if folder else self._root
        except StorageError:
            return iter(())  # no key starts so, and nothing outside the root is looked at
        keys = []
        for directory, folders, files in os.walk(top):
            folders[:] = [f for f in folders if not f.startswith(".")]
            inner = directory[len(self._root) + 1 :]
            if inner and not folders and not files:
                self._emptied.add(directory)  # by a client that was killed before it closed
            keys += [f"{inner}/{f}" if inner else f for f in files if not f.startswith(".")]
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def intact(self, key: str, data: Buffer) -> bool:
        return self._maps.intact(self._path(key), data)

    def close(self) -> None:
        """Also gives back the memory kept for recycling, and removes folders that this client's deletes emptied."""
        self._pool.close()
        self._maps.close()
        for folder in sorted(self._emptied, key=len, reverse=True):
            with contextlib.suppress(OSError):
                while folder.startswith(f"{self._root}/"):
                    os.rmdir(folder)
                    folder = folder.rpartition("/")[0]
        self._emptied.clear()

    def checks(self) -> Iterator[Finding]:
        """As :class:`~lambdaml_core.findings.SupportsChecks`."""
        from lambdaml_core.storage.file_checks import checks

        return checks(self._root)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key, self.caps.max_key_bytes)}"

    def _publish(self, temporary: str, path: str, if_absent: bool) -> bool:
        for _ in range(ATTEMPTS):  # a folder may be removed by another client's close between making it and using it
            try:
                if not if_absent:
                    os.replace(temporary, path)
                    return True
                os.link(temporary, path)
                os.unlink(temporary)
            except FileExistsError:
                if os.path.isdir(path):
                    raise IsADirectoryError(errno.EISDIR, "it is the folder of other keys", path) from None
                return False
            except FileNotFoundError:
                make_folder(path.rpartition("/")[0])
            else:
                return True
        raise disappearing(path)

    def _present(self, paths: Iterable[str], wanted: Mapping[str, str]) -> dict[str, Buffer]:
        found: dict[str, Buffer] = {}
        for path in paths:
            key = wanted.get(path)
            if key is None:
                continue
            try:
                found[key] = self._maps.read(path)
            except _ABSENT:
                continue
            except OSError as e:
                raise _typed(key, e) from e
        return found

    def _watcher(self) -> Watcher:
        if not hasattr(self._local, "watcher"):
            self._local.watcher = make_watcher()
            self._local.watched = set()
        watcher: Watcher = self._local.watcher
        return watcher

    def _watch(self, folders: set[str], watcher: Watcher) -> bool:
        """Watch these folders; True if any is new, so that a name may have appeared before it was watched."""
        new = False
        for folder in folders:
            for _ in range(ATTEMPTS):
                try:
                    new |= watcher.watch(folder)
                    break
                except FileNotFoundError:
                    make_folder(folder)
        return new


def _sync_folder(folder: str) -> None:
    """Put the names in a folder on the disk."""
    with contextlib.suppress(FileNotFoundError):  # the value has been deleted meanwhile, and its folder with it
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _typed(key: str, error: OSError) -> StorageError:
    if isinstance(error, _ABSENT):
        return KeyNotFound(f"there is no {key}")
    if error.errno in _FULL:
        return StorageFull(f"no room for {key}: {error.strerror}", hint="free some space, or choose another directory")
    if error.errno in _DENIED:
        return StorageDenied(f"{key}: {error.strerror}: {error.filename}", hint="check the directory's owner and mode")
    kind = StorageUnavailable if error.errno in _PASSING else StorageError
    return kind(f"{key}: {error.strerror}: {error.filename}")
