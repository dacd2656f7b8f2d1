"""The storage keeps its laws against a stand-in that checks signatures and permissions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_core.testing.servers import free_port
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws
from lambdaml_dynamodb.testing import DynamoDBServer, dynamodb_server

_places = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoDBServer]:
    with dynamodb_server() as started:
        yield started


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-dynamodb"


class TestDynamoDB(StorageLaws):
    patience_s = 90.0  # the stand-in is one Python process
    limit_s = 250.0
    sequences_s = 4.0  # a listing is 16 requests

    @pytest.fixture
    def url(self, server: DynamoDBServer) -> str:
        return server.url_of(f"lambdaml-test/place-{next(_places)}")


class TestDynamoDBThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, server: DynamoDBServer) -> str:
        return f"dynamodb://lambdaml-test?region=us-east-1&endpoint_url=http://127.0.0.1:{free_port()}"
