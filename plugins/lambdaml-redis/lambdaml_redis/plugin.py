"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import StorageSpec
from lambdaml_redis.options import RedisOptions

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    """The storage ``redis://``."""
    yield StorageSpec(
        name="redis",
        schemes=("redis", "rediss", "redis+unix"),
        factory="lambdaml_redis.storage:RedisStorage",
        options=RedisOptions,
        summary="Messages and values in Redis or Valkey",
    )
