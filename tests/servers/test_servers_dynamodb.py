"""Runs that are kept in DynamoDB, and whose messages go over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from run_laws import RunsOverAServer
from servers_help import lambdaml, one_line, train

from lambdaml_core.errors import StorageError, StorageUnavailable
from lambdaml_core.testing.servers import free_port
from lambdaml_dynamodb.testing import REGION, TABLE, DynamoDBServer, dynamodb_server


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoDBServer]:
    with dynamodb_server() as server:
        yield server


@pytest.fixture(scope="module")
def url(server: DynamoDBServer) -> str:
    return server.url


@pytest.fixture(scope="module")
def left(server: DynamoDBServer) -> Callable[[], int]:
    def count() -> int:
        client = boto3.client("dynamodb", endpoint_url=server.endpoint, region_name=REGION)
        return sum(page["Count"] for page in client.get_paginator("scan").paginate(TableName=TABLE, Select="COUNT"))

    return count


class TestDynamoDB(RunsOverAServer):
    store = True


def test_nobody_there(url: str, tmp_path: Path) -> None:
    gone = f"dynamodb://{TABLE}?region={REGION}&endpoint_url=http://127.0.0.1:{free_port()}"
    with pytest.raises(StorageUnavailable, match="the channel dynamodb://") as error:
        train(tmp_path.as_uri(), gone)
    assert TABLE in one_line(error.value)


def test_a_table_that_is_not_there_until_doctor_makes_it(
    server: DynamoDBServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url_of("new-table")
    with pytest.raises(StorageError, match="the store dynamodb://new-table") as wrong:
        train(url, None)
    assert "doctor --fix" in one_line(wrong.value)
    lambdaml(capsys, "doctor", "--store", url, "--fix")
    assert train(url, None)["status"] == "succeeded"
