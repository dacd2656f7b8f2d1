"""What lambdaml-redis provides keeps the laws: Redis over TCP, and Valkey over a unix socket.

Each server and each way are in it once; what crosses them differs by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_core.testing.servers import free_port
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws
from lambdaml_redis.testing import RedisServer, redis_server, valkey_server


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-redis"


@pytest.fixture(scope="module")
def over_tcp() -> Iterator[RedisServer]:
    with redis_server(password="hunter2/of@the:server") as server:  # noqa: S106
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with valkey_server(unix=True) as server:
        yield server


def _emptied(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url.replace("redis+unix", "unix")) as client:
        client.flushall()
    return server.url


class TestRedisOverTCP(StorageLaws):
    @pytest.fixture
    def url(self, over_tcp: RedisServer) -> str:
        return _emptied(over_tcp)


class TestValkeyOverUnixSocket(StorageLaws):
    @pytest.fixture
    def url(self, valkey: RedisServer) -> str:
        return _emptied(valkey) + "?db=1&prefix="


class TestRedisThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self) -> str:
        return f"redis://user:hunter2-of-nobody@127.0.0.1:{free_port()}"


class TestSocketThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"redis+unix://{tmp_path}/nobody.sock"
