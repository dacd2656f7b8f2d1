"""``memcached://`` keeps the laws of a storage, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_core.testing.servers import free_port
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws
from lambdaml_memcached.testing import memcached_server


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-memcached"


class TestMemcached(StorageLaws):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        with memcached_server() as server:
            yield server.url


class TestMemcachedThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self) -> str:
        return f"memcached://127.0.0.1:{free_port()}"


class TestSocketThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"memcached+unix://{tmp_path}/none"
