"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import StorageSpec
from lambdaml_memcached.options import MemcachedOptions

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    """The storage ``memcached://``, and by a socket of this machine ``memcached+unix://``."""
    yield StorageSpec(
        name="memcached",
        schemes=("memcached", "memcached+unix"),
        factory="lambdaml_memcached.storage:MemcachedStorage",
        options=MemcachedOptions,
        summary="messages in the memory of one Memcached server: a channel",
    )
