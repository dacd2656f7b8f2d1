"""What tests of this plugin ask of a server."""

from __future__ import annotations

import contextlib
from typing import Any

import redis

from lambdaml_core.errors import LambdaMLError
from lambdaml_core.findings import Finding
from lambdaml_core.storage import build_storage
from lambdaml_redis.storage import RedisStorage
from lambdaml_redis.testing import RedisServer

PASSWORD = "hunter2/of@the:server"  # noqa: S105
LARGE = bytes(range(256)) * 1024
"""A value that is kept as a string."""


def opened(url: str) -> Any:
    return contextlib.closing(build_storage(url))


def control(server: RedisServer, **keys: Any) -> Any:
    """A client of redis-py."""
    return redis.Redis.from_url(server.url.replace("redis+unix", "unix"), **keys)


def in_one_line(error: LambdaMLError) -> str:
    assert error.hint
    text = f"{error.message}; {error.hint}"
    assert "\n" not in text
    assert PASSWORD not in text
    return text


def findings(url: str) -> list[Finding]:
    """What doctor's look finds."""
    with contextlib.closing(build_storage(url)) as storage:
        assert isinstance(storage, RedisStorage)
        return list(storage.checks())
