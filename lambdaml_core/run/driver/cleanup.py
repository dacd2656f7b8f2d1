"""Removing what a run leaves: keys in store and channel, and the directory of a default channel."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from lambdaml_core.errors import NotSupported, StorageUnavailable
from lambdaml_core.run.driver.preflight import look_for
from lambdaml_core.run.driver.scratch import TMPFS, scratch_directory, scratch_name
from lambdaml_core.run.records.attempts import left_keys
from lambdaml_core.run.spec import DRIVER, SPEC, Place, Spec, run_channel, run_store
from lambdaml_core.storage import FullStorage


def remove_run(store: FullStorage, run: str) -> None:
    """Delete every key of the run from its store.

    Those by which it shows come last, so that it can be done again if this process is killed.
    """
    mine = run_store(store, run)
    keys = list(mine.list(""))
    last = [SPEC, *(key for key in keys if key.startswith("end/")), DRIVER]
    mine.sweep(spare=last)
    for key in last:
        if key in keys:
            mine.delete([key])


def empty_channel(store: FullStorage, place: Place, run: str) -> None:
    """Delete what the run has left in its channel.

    Of one that cannot list, that is what workers have said they left at their end; what others have left, which were
    killed, expires there.

    Args:
        store: the whole of it.

    Raises:
        StorageError: it cannot be; where nobody is there, at once, since a run that ends for that has waited enough.
    """
    look_for(place, "channel", SPEC)  # any key will do
    with contextlib.closing(place.open()) as opened:
        channel = run_channel(opened, run)
        try:
            channel.sweep()
        except NotSupported:
            channel.delete(left_keys(run_store(store, run)))


def empty_channel_from_here(store: FullStorage, spec: Spec) -> None:
    """:func:`empty_channel` between two generations, which are told apart by their keys: one that workers alone can
    reach keeps what is left until it expires.

    Raises:
        StorageError: as there, where workers are no further away than this process.
    """
    try:
        empty_channel(store, spec.channel, spec.run)
    except StorageUnavailable:
        if spec.scope != "network":
            raise


def remove_channel(store: FullStorage, place: Place, run: str) -> None:
    """Delete what the run has left in its channel, and the directory if one was made for it."""
    empty_channel(store, place, run)
    remove_scratch(place, run)


def remove_scratch(place: Place, run: str) -> None:
    """Remove the directory that was made for the messages of a run, if one was."""
    folder = scratch_directory(place.url, run)
    if folder is not None and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def remove_empty_channel(run: str) -> None:
    """Remove the directory that was made for the messages of a run which has not begun."""
    for base in (TMPFS, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):  # there is none, or it is not empty, and so another run's
            (base / scratch_name() / run).rmdir()


def remove_temporary_data(store: FullStorage, run: str) -> None:
    """Delete the partition that was made for this run, and its checkpoints."""
    mine = run_store(store, run)
    mine.sweep("data/")
    mine.sweep("checkpoints/")
