"""This machine: cores, threads, and limits of the kernel for the workers of a job."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.subject import Subject

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_OWN_FILES, _FILES_EACH = 64, 4  # open files of a driver; of an aggregator, for messages of each worker
_THREADS_EACH = 8  # of a worker: its own, and for beats, saving, reading ahead
_LEAST_FILE = 1 << 30
_CGROUP = Path("/sys/fs/cgroup")


def machine_looks(subject: Subject) -> list[Look]:
    """Every look of this module."""
    return [
        Look(group="machine", what="cores", find=lambda _: _cores(subject)),
        Look(group="machine", what="threads", find=_threads),
        Look(group="machine", what="limits", find=lambda _: _limits(subject)),
    ]


def _local_workers(subject: Subject) -> int:
    """How many workers would run on this machine."""
    return subject.job.workers if subject.job is not None and subject.scope != "network" else 0


# --- cores and threads ---------------------------------------------------------------------------------------------


def _cores(subject: Subject) -> Iterator[Finding]:
    whole, allowed, quota = os.cpu_count() or 1, len(os.sched_getaffinity(0)), cores_of_cgroup()
    usable = usable_cores()
    said = f"{usable:g} of {whole}"
    if usable < whole:
        said += " by the limit of the container" if quota is not None and quota < allowed else " by affinity"
    workers = _local_workers(subject)
    values = {"cores": usable, "machine": whole, "workers": workers}
    if subject.given and workers > usable:
        said += f", for {workers} workers, which take turns"
        remedy = f"workers = {max(1, int(usable))}, a larger machine, or a provider that has more"
        yield Finding(what="cores", state="warning", said=said, remedy=remedy, values=values)
    else:
        yield Finding(what="cores", state="ok", said=said, values=values)


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Cores that this process may use: by affinity, and by the quota of its container."""
    allowed = float(len(os.sched_getaffinity(0)))
    return min(allowed, cores_of_cgroup(cgroup) or allowed)


def cores_of_cgroup(cgroup: Path = _CGROUP) -> float | None:
    """The quota of processor time of this container, in cores; None = no limit.

    Source: the kernel's ``admin-guide/cgroup-v2`` (``cpu.max``) and ``scheduler/sched-bwc`` (version 1).
    """
    words = _read(cgroup / "cpu.max").split()
    if len(words) != 2:
        words = [_read(cgroup / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if not all(word.isdigit() for word in words):
        return None  # max, -1 or nothing
    return int(words[0]) / int(words[1])


def _threads(_: threading.Event) -> Iterator[Finding]:
    """Of the BLAS in this process and in ``inline`` workers; ``local`` ones are given one thread each."""
    cores = usable_cores()
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name, "").isdigit()}
    for name, value in given.items():
        if int(value) > cores:
            said = f"{name}={value} is more than {cores:g} cores: threads that wait for each other"
            remedy = f"unset {name}, or export {name}={max(1, int(cores))}"
            yield Finding(what="threads", state="warning", said=said, remedy=remedy)
            return
    seen = len(os.sched_getaffinity(0))
    if not given and seen > 2 * cores:
        said = f"a BLAS starts {seen} threads, one for each core it sees, and may use {cores:g}"
        remedy = f"export OMP_NUM_THREADS={max(1, int(cores))}"
        yield Finding(what="threads", state="warning", said=said, remedy=remedy)
        return
    said = ", ".join(f"{name}={value}" for name, value in given.items()) or f"as many as cores, {seen}"
    yield Finding(what="threads", state="ok", said=f"{said}; local workers have one each")


# --- limits --------------------------------------------------------------------------------------------------------


def _limits(subject: Subject) -> Iterator[Finding]:
    workers = _local_workers(subject)
    found = [*_files(workers), *_processes(workers), *_file_size()]
    yield from found
    if not found:
        whom = f"{workers} workers" if workers else "a driver"
        yield Finding(what="limits", state="ok", said=f"open files and processes suffice for {whom}")


def _files(workers: int) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OWN_FILES + _FILES_EACH * workers
    if _limited(soft) < needed:
        said = f"a process may open {soft} files, and {workers} workers may need {needed}"
        remedy = f"ulimit -n {needed}"
        if _limited(hard) < needed:
            remedy += f", for which root raises the hard limit of {hard}: /etc/security/limits.conf"
        yield Finding(what="open files", state="problem", said=said, remedy=remedy)


def _processes(workers: int) -> Iterator[Finding]:
    """Threads count as processes; root's have no limit but that of the container."""
    needed = workers * _THREADS_EACH
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and _limited(soft) < float("inf") and (left := soft - _own_threads()) < needed:
        said = f"this user may start {max(0, left)} more processes and threads, and {workers} workers need {needed}"
        yield Finding(what="processes", state="problem", said=said, remedy=f"ulimit -u {soft - left + needed}")
    most, now = _read(_CGROUP / "pids.max").strip(), _read(_CGROUP / "pids.current").strip()
    if most.isdigit() and now.isdigit() and (left := int(most) - int(now)) < needed:
        said = f"this container may start {left} more processes and threads, and {workers} workers need {needed}"
        remedy = f"docker run --pids-limit={int(now) + 2 * needed}, or fewer workers"
        yield Finding(what="processes", state="problem", said=said, remedy=remedy)


def _file_size() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if _limited(soft) < _LEAST_FILE:
        said = f"a file may have {soft} bytes at most, and shards, checkpoints and models may be larger"
        yield Finding(what="file size", state="warning", said=said, remedy="ulimit -f unlimited")


def _limited(value: int) -> float:
    return float("inf") if value == resource.RLIM_INFINITY else value


def _own_threads() -> int:
    """How many threads this user has."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if folder.stat().st_uid == os.getuid():
                    total += len(list((folder / "task").iterdir()))
            except OSError:
                continue  # it has ended
    return total


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
