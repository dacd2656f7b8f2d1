"""What a worker leaves in its channel: where nobody can list it, it says so itself, for whoever finishes the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.exchange import SlotExchange
from lambdaml_core.errors import StorageError
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import Left, left_key
from lambdaml_core.run.spec import Place, get_all_json, put_json
from lambdaml_core.run.worker.leaving import Leave
from lambdaml_core.storage import FullStorage


@contextlib.contextmanager
def leaving_channel(
    store: FullStorage, ref: WorkerRef, channel: Place, *users: Engine | SlotExchange
) -> Iterator[None]:
    """At a good end, delete what is done with; at any, say what is left, beside what earlier users in this attempt
    have left.

    Args:
        store: prefixed by the run.
    """
    try:
        yield
        with contextlib.suppress(StorageError, Leave):  # all is done: whoever finishes the run deletes the rest
            for user in users:
                user.close()
    finally:
        if users[0].size > 1 and not channel.lists():
            key = left_key(ref.generation, ref.rank, ref.attempt)
            with contextlib.suppress(StorageError):  # what nobody knows of expires
                before = get_all_json(store, [key]).get(key, Left(keys=[]))
                put_json(store, key, Left(keys=[*before["keys"], *(key for user in users for key in user.left())]))
