"""What only ``file://`` knows to look at in its directory, for ``lambdaml doctor``; workers do not import this.

Free space, clocks and speed, and whether what is put can be got, doctor looks at itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lambdaml_core.findings import Finding
from lambdaml_core.storage.mounts import file_system
from lambdaml_core.storage.notify import InotifyWatcher, make_watcher

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs"})


def checks(root: str) -> Iterator[Finding]:
    """Look at a directory, or at the one in which it would be made; nothing is left there."""
    try:
        folder = _existing(Path(root or "/"))
        with tempfile.TemporaryFile(dir=folder):
            kind = file_system(folder)
    except OSError as e:
        yield Finding(
            what="directory",
            state="problem",
            said=f"{root}: {e.strerror}: {e.filename}",
            remedy="check its owner and mode, or choose another directory",
        )
        return
    yield Finding(what="directory", state="ok", said=f"{folder} can be written to", values={"file_system": kind})
    if kind in _NETWORK:
        yield Finding(
            what="file system",
            state="warning",
            said=f"{folder} is on a network ({kind}), where the processes of one machine do not wake those of another",
            remedy="have all workers on one machine, or use a storage for networks",
        )
    yield _waking()


def _existing(folder: Path) -> Path:
    """The directory, or the nearest above it that there is. Raises OSError: something else is in the way."""
    while True:
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            folder = folder.parent
        else:
            return folder


def _waking() -> Finding:
    """Every thread that waits has an inotify instance of its own, and users have few."""
    try:
        wakes = isinstance(make_watcher(), InotifyWatcher)
        why = "this user's inotify instances are used up, or there are none"
    except OSError as e:
        wakes, why = False, str(e.strerror)
    if wakes:
        return Finding(what="waiting", state="ok", said="the kernel wakes who waits")
    return Finding(
        what="waiting",
        state="warning",
        said=f"who waits has to look again and again: {why}",
        remedy="sysctl fs.inotify.max_user_instances=1024",
    )
