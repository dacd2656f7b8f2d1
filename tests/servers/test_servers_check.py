"""``lambdaml plugins check`` on a live server, as somebody has it who has no tests.

Stand-ins of AWS's services are slow at it, and SeaweedFS breaks two laws that AWS keeps: the tests of their plugins run
the same laws, and say so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from servers_help import lambdaml

from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.storage import StorageLaws
from lambdaml_memcached.testing import memcached_server
from lambdaml_redis.testing import redis_server


@pytest.mark.parametrize("start", [redis_server, memcached_server])
def test_laws_are_tried_where_a_server_is(
    start: Callable[[], contextlib.AbstractContextManager[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with start() as server:
        found = lambdaml(capsys, "plugins", "check", server.url)
    assert (found["kind"], found["verdict"], found["checked"], found["left"]) == ("storage", "keeps", server.url, None)
    assert {law["law"] for law in found["laws"]} == set(laws_of(StorageLaws))
    assert sum(law["outcome"] == "ok" for law in found["laws"]) > 30
