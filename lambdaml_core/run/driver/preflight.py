"""First contact with the storages of a run: what is wrong with them is told at once, before any work is done."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from lambdaml_core.errors import StorageError, StorageUnavailable
from lambdaml_core.run.driver.scratch import scratch_directory
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import Place
from lambdaml_core.run.trial import briefly
from lambdaml_core.storage import FullStorage, StorageURL, build_storage

_VALUE = b"whether this can be used"
_log = logging.getLogger("lambdaml")
_TRIES = 3  # a run gets over one value that is lost


def try_places(run: str, store: Place, channel: Place | None, *, scope: str) -> None:
    """Put, get and delete a small value in each, where the run's own will be. Nothing is left.

    Args:
        channel: None = one that will be made for the run. One that was made for it is passed over.
        scope: of the run: workers that meet over a network may reach a channel that this process does not, such as a
            cache in their private network. It is left to them, then, with a warning.

    Raises:
        StorageError: the kind that it met; the message says which of the two it is.
    """
    try_place(store, "store", f"runs/{run}")
    if channel is None or scratch_directory(channel.url, run) is not None:
        return
    try:
        try_place(channel, "channel", f"channels/{run}")
    except StorageUnavailable as e:
        if scope != "network" or channel.url == store.url:
            raise
        _log.warning("%s; workers may reach it all the same", e.message)


def look_for(place: Place, role: str, key: str) -> bool:
    """Whether this key is there, in a storage that nothing may be written to.

    Raises:
        StorageError: as :func:`try_places`.
    """
    with _opened(place, role) as storage:
        return bool(storage.get_many([key]))


def try_place(place: Place, role: str, folder: str) -> None:
    """The same with one of them, in a folder of it."""
    key, found = f"{folder}/trial", None
    with _opened(place, role) as storage:
        for _ in range(_TRIES):
            try:
                storage.put(key, [_VALUE], if_absent=storage.caps.creates_once)
                found = storage.get_many([key]).get(key)
            except BaseException:
                with contextlib.suppress(StorageError):
                    storage.delete([key])
                raise
            storage.delete([key])
            if found is not None and bytes(found) == _VALUE:
                return
        said = "what was put is not there" if found is None else "what it gives back is not what was put"
        raise StorageError(said, hint="lambdaml doctor looks closer")


@contextlib.contextmanager
def _opened(place: Place, role: str) -> Iterator[FullStorage]:
    """The storage, whose errors say what it is to the run."""
    try:
        with contextlib.closing(briefly(build_storage(place.url, place.reference))) as storage:
            yield storage
    except StorageError as e:
        message = f"the {role} {StorageURL.parse(place.url)} cannot be used: {e.message}"
        shown = without_secrets(message, [place.url])
        raise type(e)(shown, hint=e.hint) from (e if shown == message else None)
