"""Room on disks and in memory, and what goes where."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lambdaml_core.errors import StorageFull
from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.subject import Subject
from lambdaml_core.storage.mounts import file_system, free_bytes

if TYPE_CHECKING:
    from lambdaml_core.storage import StorageURL

_LEAST_FREE, _LEAST_FILES = 1 << 30, 10_000
_COMPRESSED = 5  # times that text grows when it is unpacked, about
_IN_MEMORY = ("tmpfs", "ramfs")
_LEFT_S = 3600.0  # what no process has touched for so long


def space_looks(subject: Subject) -> list[Look]:
    """Looks at the places that no URL names."""
    return [
        Look(group="job", what="data", find=lambda _: _source(subject), remedy="see data.source of the job"),
        Look(group="machine", what="temporary files", find=lambda _: _temporary(subject), remedy="set TMPDIR"),
        Look(group="machine", what="messages", find=lambda _: _messages(subject)),
        Look(group="machine", what="left over", find=_left_over),
    ]


# --- of a storage --------------------------------------------------------------------------------------------------


def folder_of(url: StorageURL) -> Path | None:
    """The folder of a ``file://`` URL, of one with layers around it too; None for other storages."""
    while url.layer():
        url = url.inner()
    return Path(url.path) if url.scheme == "file" else None


def of_storage(url: StorageURL, role: str, needed: int) -> Iterator[Finding]:
    """The room of a storage of files, and whether it is on the right kind of disk."""
    folder = folder_of(url)
    if folder is None or role == "data":
        return
    yield _room("space", _existing(folder), needed)
    kind = file_system(folder)
    in_memory = kind in _IN_MEMORY
    if "store" in role and in_memory:
        said = f"{folder} is in memory: its runs and models are gone when the machine restarts"
        yield Finding(what="disk", state="warning", said=said, remedy="give a store on a disk")
    if "channel" in role and not in_memory:
        yield from _quicker(folder, kind, needed)


def _quicker(folder: Path, kind: str, needed: int) -> Iterator[Finding]:
    from lambdaml_core.run.driver.scratch import TMPFS, has_tmpfs

    if has_tmpfs() and _free(TMPFS) >= needed:
        yield Finding(
            what="tmpfs",
            state="warning",
            said=f"messages go through a disk ({kind}), and {TMPFS} is memory: {_gb(_free(TMPFS))} free",
            remedy=f'channel = "file://{TMPFS}/{folder.name}", or leave channel out',
        )


@contextlib.contextmanager
def left_as_it_was(folder: Path | None) -> Iterator[None]:
    """Remove folders that are made meanwhile for a storage of files, if they are empty."""
    made = [] if folder is None else [p for p in (folder, *folder.parents) if not _exists(p)]
    try:
        yield
    finally:
        for path in [*([made[0] / ".new", made[0] / ".pool"] if made else []), *made]:
            with contextlib.suppress(OSError):
                path.rmdir()


# --- of this machine -----------------------------------------------------------------------------------------------


def _source(subject: Subject) -> Iterator[Finding]:
    """The files that a partition would be made of.

    Raises:
        DataError: there are none.
    """
    source = subject.job.data.source if subject.job is not None and subject.given else None
    if source is None or "://" in source or subject.broken:  # as is said where libraries are looked at
        return
    from lambdaml_core.data.sources import data_files

    files = data_files(source)
    for file in files:
        if not os.access(file, os.R_OK):
            said = f"{file} " + ("cannot be read" if file.exists() else "does not exist")
            yield Finding(what="data", state="problem", said=said, remedy="check data.source, and the file's mode")
            return
    subject.source_bytes = sum(f.stat().st_size * (_COMPRESSED if f.suffix == ".gz" else 1) for f in files)
    said = f"{len(files)} files, {_gb(subject.source_bytes)} unpacked" if len(files) > 1 else str(files[0])
    yield Finding(what="data", state="ok", said=said, values={"bytes": subject.source_bytes})


def _temporary(subject: Subject) -> Iterator[Finding]:
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as e:
        said = f"no folder for temporary files can be written to: {e.strerror}"
        yield Finding(what="temporary files", state="problem", said=said, remedy="export TMPDIR=FOLDER, one with room")
        return
    yield _room("temporary files", folder, subject.source_bytes)


def _messages(subject: Subject) -> Iterator[Finding]:
    """Where the messages of local workers go if the job does not say."""
    job = subject.job
    if job is None or job.channel is not None or subject.scope != "host":
        return
    from lambdaml_core.run.driver.scratch import TMPFS, scratch_base, scratch_name

    needed = subject.room_of("channel")
    remedy = f"make room in {TMPFS}, or more of it: mount -o remount,size=2g {TMPFS}; docker run --shm-size=2g"
    try:
        base, reason = scratch_base(needed)
    except StorageFull as e:
        yield Finding(what="messages", state="problem", said=e.message, remedy=remedy)
        return
    values = {"free_bytes": _free(base), "needed_bytes": needed}
    yield from _private(base / scratch_name())
    if reason is None:
        said = f"go through {base}, which is memory: {_gb(_free(base))} free, {_gb(needed)} may be needed"
        yield Finding(what="messages", state="ok", said=said, values=values)
    else:
        said = f"go through {base}, which is slower than {TMPFS}: {reason}"
        yield Finding(what="messages", state="warning", said=said, remedy=remedy, values=values)


def _private(folder: Path) -> Iterator[Finding]:
    """No run goes through a folder that others can look into."""
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        said = f"{folder} belongs to somebody else, and local runs need it"
        remedy = f"have its owner or root remove {folder}, or give channel in the job"
        yield Finding(what="messages", state="problem", said=said, remedy=remedy)
    elif stat.S_IMODE(info.st_mode) & 0o077:
        said = f"{folder} is open to others, so that local runs refuse it"
        yield Finding(
            what="messages",
            state="problem",
            said=said,
            remedy=f"chmod 700 {folder}, or lambdaml doctor --fix",
            fix=lambda: folder.chmod(0o700),
        )


def _left_over(_: threading.Event) -> Iterator[Finding]:
    """Messages of runs that nobody works on any more; for a person to decide about."""
    from lambdaml_core.run.driver.scratch import TMPFS, scratch_name

    left = {folder.name: _bytes_below(folder) for folder in _untouched(TMPFS / scratch_name())}
    if left:
        names = ", ".join(sorted(left)[:5]) + (", ..." if len(left) > 5 else "")
        said = f"{_gb(sum(left.values()))} of messages of runs that have not gone on for an hour: {names}"
        remedy = (
            f"lambdaml resume RUN, or lambdaml clean RUN; where no store knows it: rm -r {TMPFS / scratch_name()}/RUN"
        )
        yield Finding(what="left over", state="warning", said=said, remedy=remedy, values={"bytes": sum(left.values())})


def _untouched(base: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for folder in base.iterdir():
            times = [folder.stat().st_mtime, *(p.stat().st_mtime for p in folder.rglob("*"))]
            if time.time() - max(times) > _LEFT_S:
                yield folder


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


# --- disks ---------------------------------------------------------------------------------------------------------


def _room(what: str, folder: Path, needed: int) -> Finding:
    usage, free = os.statvfs(folder), free_bytes(folder)
    values = {"free_bytes": free, "needed_bytes": needed}
    said = f"{_gb(free)} free in {folder}"
    remedy = f"make room on the disk of {folder}, or choose another place"
    if not os.access(folder, os.W_OK):
        said = f"{folder} cannot be written to"
        remedy = f"choose another place, or see to the owner and mode of {folder}"
        return Finding(what=what, state="problem", said=said, remedy=remedy, values=values)
    if free < needed:
        said += f", and {_gb(needed)} may be needed"
        return Finding(what=what, state="problem", said=said, remedy=remedy, values=values)
    if free < _LEAST_FREE or (usage.f_files > 0 and usage.f_favail < _LEAST_FILES):
        said += f", for {usage.f_favail} files" if usage.f_favail < _LEAST_FILES else ""
        return Finding(what=what, state="warning", said=said, remedy=remedy, values=values)
    return Finding(what=what, state="ok", said=said, values=values)


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if _exists(p))


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (False where this user may not look)


def _free(folder: Path) -> int:
    return free_bytes(_existing(folder))


def _gb(number: float) -> str:
    return f"{number / 1e9:.3g} GB" if number >= 1e8 else f"{number / 1e6:.3g} MB"
