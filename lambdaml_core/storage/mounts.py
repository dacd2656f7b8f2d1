"""Which file system a directory is on, and its room; workers do not import this."""

from __future__ import annotations

import os
import re
from pathlib import Path

_OCTAL = re.compile(rb"\\([0-7]{3})")  # as the kernel writes spaces in names


def file_system(folder: Path) -> str:
    """The type of the file system that a directory is on or would be, such as ``ext4``; empty where nothing tells."""
    try:
        lines = Path("/proc/mounts").read_bytes().splitlines()
    except OSError:
        return ""
    place = Path(os.path.realpath(folder))
    nearest, kind = "", ""
    for line in lines:
        point, found = (os.fsdecode(_OCTAL.sub(lambda m: bytes([int(m[1], 8)]), word)) for word in line.split()[1:3])
        if place.is_relative_to(point) and len(point) >= len(nearest):  # a later mount hides an earlier one
            nearest, kind = point, found
    return kind


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the file system of a directory.

    Raises:
        OSError: there is no such directory.
    """
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize
