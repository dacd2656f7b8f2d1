"""What a storage does when it is used: whether it keeps what it is given, and how quickly."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lambdaml_core.errors import KeyNotFound, StorageError
from lambdaml_core.findings import Finding
from lambdaml_core.run.trial import Stopped, Trial, measure
from lambdaml_core.storage import FullStorage

_SKEW_S = 2.0  # of clocks; more shows in listings and reports
_SLOWER = 10  # times what the storage says of itself


class _Examination(Trial):
    """What is put there is not all that is looked for."""

    def __init__(self, storage: FullStorage, check: str, stop: threading.Event) -> None:
        super().__init__(storage, "doctor", stop)
        self._check = check

    def broken(self, what: str, said: str) -> Finding:
        """The storage does not do as it says."""
        return Finding(what=what, state="problem", said=said, remedy=self._check)


def use(
    storage: FullStorage, stop: threading.Event, *, lists: bool, near: bool, folder: Path | None, check: str
) -> Iterator[Finding]:
    """Put, get, create, list and delete, and measure.

    Args:
        lists: it is to be a store.
        near: workers will reach it from here, so that its latency is theirs.
        folder: where it keeps values as files, if it does.
        check: what to do about a storage that does not keep its word.

    Raises:
        StorageError: a request failed. What was put is deleted, as far as that can be done.
    """
    trial = _Examination(storage, check, stop)
    try:
        for step in (_keeps, _creates_once, *([_lists] if lists else [])):
            yield from step(trial)
        yield _speed(trial, near)
        if folder is not None:
            yield _clock(trial, folder)
        yield from _deletes(trial)
    except Stopped:
        return
    finally:
        with contextlib.suppress(StorageError):
            trial.clean()


def _keeps(trial: _Examination) -> Iterator[Finding]:
    value = os.urandom(1 << 10)
    trial.put("kept", value)
    if bytes(trial.storage.get("kept")) != value:
        yield trial.broken("values", "what it gives back is not what was put")


def _creates_once(trial: _Examination) -> Iterator[Finding]:
    if not trial.storage.caps.creates_once:
        return
    first, again = (trial.put("once", value, if_absent=True) for value in (b"first", b"second"))
    if (first, again, bytes(trial.storage.get("once"))) == (True, False, b"first"):
        yield Finding(what="create once", state="ok", said="a value that exists is not created again")
    else:
        yield trial.broken("create once", "it says that it creates once, and creates a value again that exists")


def _lists(trial: _Examination) -> Iterator[Finding]:
    keys = [f"list/{n}" for n in range(3)]
    for key in keys:
        trial.put(key, b"")
    found = list(trial.storage.list("list/"))
    if found == keys:
        yield Finding(what="list", state="ok", said="what was put is listed")
    else:
        yield trial.broken("list", f"of {len(keys)} keys that were put it lists {len(found)}, or in another order")


def _deletes(trial: _Examination) -> Iterator[Finding]:
    trial.clean()
    with contextlib.suppress(KeyNotFound):
        trial.storage.get("kept")
        yield trial.broken("delete", f"what was deleted is still there, below {trial.name}")


# --- figures -------------------------------------------------------------------------------------------------------


def _speed(trial: Trial, near: bool) -> Finding:
    speed = measure(trial)
    values = {
        "put_s": speed.put_s,
        "get_s": speed.get_s,
        "put_bytes_per_s": speed.bytes / speed.bytes_put_s,
        "get_bytes_per_s": speed.bytes / speed.bytes_get_s,
        "bytes": speed.bytes,
    }
    said = (
        f"put {_ms(values['put_s'])}, get {_ms(values['get_s'])}; "
        f"{_size(values['put_bytes_per_s'])}/s up, {_size(values['get_bytes_per_s'])}/s down"
    )
    caps = trial.storage.caps
    if near and caps.scope == "network" and 0 < _SLOWER * caps.latency_s < values["get_s"]:
        said += f"; a request is said to take {_ms(caps.latency_s)}"
        remedy = "choose a storage near the workers, in the same region; lambdaml bench collectives shows what it costs"
        return Finding(what="speed", state="warning", said=said, remedy=remedy, values=values)
    return Finding(what="speed", state="ok", said=said, values=values)


# --- clocks --------------------------------------------------------------------------------------------------------


def _clock(trial: Trial, folder: Path) -> Finding:
    """The times of files are those of whoever keeps them, which may be another machine."""
    before = time.time()
    trial.put("clock", b"")
    written = (folder / trial.name / "clock").stat().st_mtime
    return clock_finding(before, written, time.time())


def clock_finding(before: float, written: float, after: float) -> Finding:
    """How far a storage's clock is from ours, by the time of a value that was put between two looks at ours."""
    skew = max(before - written, written - after, 0.0)
    values = {"skew_s": skew if written > after else -skew}
    if skew <= _SKEW_S:
        return Finding(what="clock", state="ok", said=f"within {max(skew, 0.1):.1f} s of ours", values=values)
    said = f"its clock is {skew:.1f} s {'ahead of' if written > after else 'behind'} ours"
    remedy = "set the clocks by NTP: timedatectl set-ntp true, here and on the file server"
    return Finding(what="clock", state="warning", said=said, remedy=remedy, values=values)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _size(number: float) -> str:
    return f"{number / 1e6:.3g} MB"
