"""The directory on this machine where the messages of a run go that names no channel, and the room that they need."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

from lambdaml_core.errors import JobError, StorageFull
from lambdaml_core.run.job import Job
from lambdaml_core.run.spec import Place
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.mounts import file_system, free_bytes

TMPFS = Path("/dev/shm")  # noqa: S108  (a directory of this user's own is made in it)
_ROOM_FACTOR = 3  # messages of a collective, those of the next one, and as much again to spare
_LEAST_ROOM = 64 << 20
_LEAST_RETAINED, _RETAINED_MESSAGES = 64 << 20, 8  # of results that are kept for replacements
_log = logging.getLogger("lambdaml")


def scratch_name() -> str:
    """The name of the directory that this user's messages go below."""
    return f"lambdaml-{os.getuid()}"


def scratch_directory(channel: str, run: str) -> Path | None:
    """The directory that is made for the messages of this run, if its channel is one."""
    url = StorageURL.parse(channel)
    path = Path(url.path)
    ours = url.scheme == "file" and path.name == run and path.parent.name == scratch_name()
    return path if ours else None


def retain_bytes(job: Job, message_bytes: int) -> int:
    """Bytes of results that are kept at most for workers that are replaced."""
    return job.checkpoint.retain_bytes or max(_LEAST_RETAINED, _RETAINED_MESSAGES * message_bytes)


def room_for_messages(workers: int, message_bytes: int, retained: int = 0) -> int:
    """Bytes that the messages of a run may need at once, with those of results that are kept for replacements."""
    return _LEAST_ROOM + _ROOM_FACTOR * (workers + 1) * message_bytes + retained


def scratch_base(room: int) -> tuple[Path, str | None]:
    """Where the directory for messages goes: on tmpfs, or else on disk, with the reason why.

    Raises:
        StorageFull: neither has room.
    """
    reason = _lack(TMPFS, room) if has_tmpfs() else "it is no tmpfs"
    if reason is None:
        return TMPFS, None
    base = Path(tempfile.gettempdir())
    if (lack := _lack(base, room)) is not None:
        raise StorageFull(f"no room for messages in {base}: {lack}", hint="make room, or give channel in the job")
    return base, reason


def local_channel(name: str, workers: int, message_bytes: int, retained: int = 0) -> str:
    """URL of a fresh directory for messages between processes of this machine: on tmpfs, or else on disk.

    Args:
        retained: bytes of results that are kept there for workers that are replaced.

    Raises:
        StorageFull: neither has room.
    """
    base, reason = scratch_base(room_for_messages(workers, message_bytes, retained))
    if reason is not None:
        _log.warning("messages go through %s, which is slower than %s: %s", base, TMPFS, reason)
    folder = _own_directory(base / scratch_name()) / name
    folder.mkdir(mode=0o700)
    return StorageURL("file", path=str(folder)).text()


def remake_channel(channel: Place, run: str) -> None:
    """Make the directory of a default channel again, which is gone where a run has ended or was on another machine.

    Raises:
        JobError: somebody else has made it.
    """
    folder = scratch_directory(channel.url, run)
    if folder is not None:
        _own_directory(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _lack(base: Path, room: int) -> str | None:
    """What is missing where less than ``room`` bytes are free."""
    free = free_bytes(base)
    return f"{free >> 20} MiB are free, and {room >> 20} MiB may be needed" if free < room else None


def has_tmpfs() -> bool:
    """Whether this machine has the directory in memory."""
    return TMPFS.is_dir() and file_system(TMPFS) == "tmpfs"


def _own_directory(path: Path) -> Path:
    """A directory that nobody else can look into or has made.

    Raises:
        JobError: somebody else has.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise JobError(f"{path} belongs to somebody else or is open to others", hint="give channel in the job")
    return path
