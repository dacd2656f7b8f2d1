"""Processes of this machine, and handles by which any other process of it can look at them and end them. Linux only.

A handle is ``HOST/PID/TICKS``. The host is the boot of the kernel and the name space of process ids, so that a number
means nothing elsewhere; the ticks, since the boot, are when the process was started, so that a number which is used
again is not taken for the process that had it before.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

MARK = "LAMBDAML_RUN"
"""The variable in a worker's environment that says whose it is; what the worker starts inherits it."""

_GRACE_S = 2.0  # between SIGTERM and SIGKILL
_HOPELESS_S = 10.0  # a process that SIGKILL has not ended by then hangs in the kernel
_LOOK_S = 0.01
_PROC = Path("/proc")
_DIGITS = 18  # of a number in a handle; those of the kernel are shorter

State = Literal["running", "ended", "unknown"]


class _Stat(NamedTuple):
    state: str
    group: int
    ticks: int


def handle_of(pid: int | None = None) -> str:
    """The handle of a process, by default this one.

    Raises:
        ProcessLookupError: there is none of this number, not even one that has not been waited for.
    """
    pid = os.getpid() if pid is None else pid
    return f"{_host()}/{pid}/{_stat(pid).ticks}"


def state_of(handle: str) -> State:
    """``unknown`` for what is not a process of this machine, since this boot."""
    host, pid, ticks = _parts(handle)
    if host != _host():
        return "unknown"
    return "running" if _running(pid, ticks) else "ended"


def group_of(handle: str) -> int | None:
    """The number of the process group that a running process is in; None where it does not run here."""
    host, pid, ticks = _parts(handle)
    try:
        return _stat(pid).group if host == _host() and _running(pid, ticks) else None
    except ProcessLookupError:
        return None


def send(handle: str, number: signal.Signals) -> bool:
    """Send a signal to the process of a handle, and to no other. Returns whether it was running."""
    host, pid, ticks = _parts(handle)
    if host != _host():
        return False
    try:
        fd = os.pidfd_open(pid)  # from here on the process is meant, whatever becomes of the number
    except ProcessLookupError:
        return False
    try:
        if not _running(pid, ticks):
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def find(mark: str) -> Iterator[str]:
    """The handles of the running processes that are marked so, as far as this user may look."""
    wanted = f"\0{MARK}={mark}\0".encode()
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if wanted in b"\0" + (folder / "environ").read_bytes():
                yield handle_of(int(folder.name))
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it has ended, or is another user's


def end_all(living: Callable[[], Sequence[str]]) -> Sequence[str]:
    """End processes, by SIGTERM and two seconds later by SIGKILL.

    Args:
        living: says which there are; asked until it finds none, since they may start others meanwhile.

    Returns:
        Those that cannot be ended, because they hang in the kernel.
    """
    began = time.monotonic()
    asked: set[str] = set()
    empty = 0
    while empty < 2:  # one that was started late may have been overlooked, and who started it has ended since
        found = living()
        age = time.monotonic() - began
        if found and age > _HOPELESS_S:
            return found
        for handle in found:
            if age > _GRACE_S:
                send(handle, signal.SIGKILL)
            elif handle not in asked:
                send(handle, signal.SIGTERM)
        asked.update(found)
        empty = 0 if found else empty + 1
        if found:
            time.sleep(_LOOK_S)
    return []


def await_end(handles: Iterable[str]) -> None:
    """Return when none of these processes is running any more, or two seconds have passed.

    One that was killed gives up its environment, by which :func:`find` knows it, some time before it has ended.
    """
    give_up = time.monotonic() + _GRACE_S
    going = [handle for handle in handles if state_of(handle) == "running"]
    while going and time.monotonic() < give_up:
        time.sleep(_LOOK_S)
        going = [handle for handle in going if state_of(handle) == "running"]


def _host() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{(_PROC / 'self/ns/pid').stat().st_ino}"


def _parts(handle: str) -> tuple[str, int, int]:
    """Host, number and ticks; no host for what is no handle of ours."""
    host, *numbers = handle.split("/")
    if len(numbers) != 2 or not all(n.isdecimal() and len(n) <= _DIGITS for n in numbers):
        return "", 0, 0
    return host, int(numbers[0]), int(numbers[1])


def _running(pid: int, ticks: int) -> bool:
    try:
        stat = _stat(pid)
    except ProcessLookupError:
        return False
    return stat.ticks == ticks and stat.state not in "ZX"  # a zombie has ended, and has not been waited for


def _stat(pid: int) -> _Stat:
    """What proc(5) says of a process; its name, in brackets, may hold anything.

    Raises:
        ProcessLookupError: there is none.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except FileNotFoundError as e:
        raise ProcessLookupError(f"there is no process {pid}") from e
    return _Stat(fields[0], int(fields[2]), int(fields[19]))
