"""Removing what a run leaves: keys in store and channel, and the directory of a default channel."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from lambdaml_core.errors import NotSupported
from lambdaml_core.run.spec import Place, run_channel, run_store
from lambdaml_core.storage import FullStorage, StorageURL


def remove_run(store: FullStorage, run: str) -> None:
    """Delete every key of the run from its store."""
    mine = run_store(store, run)
    mine.delete(list(mine.list("")))


def remove_channel(place: Place, run: str) -> None:
    """Delete what the run has left in its channel, and the directory if one was made for it."""
    channel = run_channel(place.open(), run)
    with contextlib.suppress(NotSupported):  # a channel that cannot list drops by itself what is left
        channel.delete(list(channel.list("")))
    channel.close()
    folder = scratch_directory(place.url, run)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_directory(channel: str, run: str) -> Path | None:
    """The directory that was made for the messages of this run, if its channel is one."""
    url = StorageURL.parse(channel)
    path = Path(url.path)
    ours = url.scheme == "file" and path.name == run and path.parent.name == scratch_name()
    return path if ours and path.is_dir() and not path.is_symlink() else None


def scratch_name() -> str:
    """The name of the directory that this user's messages go below."""
    return f"lambdaml-{os.getuid()}"


def remove_temporary_data(store: FullStorage, run: str) -> None:
    """Delete the partition that was made for this run."""
    mine = run_store(store, run)
    mine.delete(list(mine.list("data/")))
