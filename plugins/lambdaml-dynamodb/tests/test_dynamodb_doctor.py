"""``lambdaml doctor`` says what is wrong with a table, and ``--fix`` makes one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from dynamodb_help import become, client_of, opened, proxy

from lambdaml_core.errors import StorageDenied
from lambdaml_core.findings import Finding
from lambdaml_dynamodb import layout
from lambdaml_dynamodb.checks import checks, create_table
from lambdaml_dynamodb.client import Client
from lambdaml_dynamodb.options import DynamoDBOptions
from lambdaml_dynamodb.testing import REGION, TABLE, DynamoDBServer, dynamodb_server


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoDBServer]:
    with dynamodb_server() as started:
        yield started


def of(server: DynamoDBServer, table: str) -> Client:
    return Client(table, DynamoDBOptions(region=REGION, endpoint_url=server.endpoint))


def found(server: DynamoDBServer, table: str) -> dict[str, Finding]:
    """The findings by what they are about."""
    return {finding.what: finding for finding in checks(of(server, table))}


def make(server: DynamoDBServer, table: str, **others: Any) -> None:
    """A table that somebody has made."""
    given = {"KeySchema": layout.KEYS, "AttributeDefinitions": layout.TYPES, "BillingMode": "PAY_PER_REQUEST"}
    client_of(server).create_table(TableName=table, **given | others)


def test_a_table_of_ours_is_well(server: DynamoDBServer) -> None:
    findings = found(server, TABLE)
    assert {what: finding.state for what, finding in findings.items()} == {
        "credentials": "ok",
        "table": "ok",
        "billing": "ok",
        "expiry": "ok",
    }
    assert "env" in findings["credentials"].said


def test_the_fix_makes_a_table_that_works(server: DynamoDBServer) -> None:
    missing = found(server, "made-by-fix")["table"]
    assert missing.state == "problem"
    assert missing.fix is not None
    for _ in range(2):  # it may be called again
        missing.fix()
        assert {finding.state for finding in found(server, "made-by-fix").values()} == {"ok"}
    with opened(server.url_of("made-by-fix")) as storage:
        assert storage.put("k", [b"x"], if_absent=True) is True
    described = client_of(server).describe_table(TableName="made-by-fix")["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    expiry = client_of(server).describe_time_to_live(TableName="made-by-fix")["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "t"}


def test_the_fix_waits_until_the_table_is_ready(server: DynamoDBServer) -> None:
    looks = iter(["CREATING", "CREATING", "ACTIVE"])

    def creating(operation: str, parameters: dict[str, Any], _: object) -> tuple[int, Any] | None:
        if operation != "DescribeTable":
            return None
        return 200, {"Table": {"TableName": parameters["TableName"], "TableStatus": next(looks)}}

    with proxy(server) as between:
        between.intercept = creating
        create_table(Client("slowly-made", DynamoDBOptions(region=REGION, endpoint_url=between.endpoint)))
        order = [operation for operation, _ in between.seen]
    assert order[:4] == ["CreateTable", "DescribeTable", "DescribeTable", "DescribeTable"]
    assert order[-1] == "UpdateTimeToLive"


def test_a_table_of_somebody_else_is_left_alone(server: DynamoDBServer) -> None:
    names = [{"AttributeName": "id", "KeyType": "HASH"}]
    types = [{"AttributeName": "id", "AttributeType": "S"}]
    make(server, "somebodys", KeySchema=names, AttributeDefinitions=types)
    finding = found(server, "somebodys")["table"]
    assert finding.state == "problem"
    assert "id (HASH)" in finding.said
    assert finding.fix is None


def test_a_table_that_keeps_what_is_over_is_mended(server: DynamoDBServer) -> None:
    make(server, "keeps")
    finding = found(server, "keeps")["expiry"]
    assert finding.state == "warning"
    assert finding.fix is not None
    finding.fix()
    assert found(server, "keeps")["expiry"].state == "ok"


def test_a_table_with_bounded_throughput_is_told(server: DynamoDBServer) -> None:
    room = {"ReadCapacityUnits": 7, "WriteCapacityUnits": 5}
    make(server, "bounded", BillingMode="PROVISIONED", ProvisionedThroughput=room)
    finding = found(server, "bounded")["billing"]
    assert finding.state == "warning"
    assert "7 units read and 5 written" in finding.said
    assert "--billing-mode PAY_PER_REQUEST" in str(finding.remedy)


def test_who_may_not_look_is_told_so(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = become(monkeypatch, server, "onlooker", None)
    finding = found(server, TABLE)["table"]
    assert finding.state == "problem"
    assert "not authorized" in finding.said
    assert secret not in f"{finding}"
    with pytest.raises(StorageDenied):
        create_table(of(server, "not-by-me"))


def test_the_command_makes_a_table_and_finds_it_well(server: DynamoDBServer) -> None:
    command = ["doctor", "--json", "--fix", "--store", server.url_of("made-by-command/runs")]
    done = subprocess.run(
        [sys.executable, "-m", "lambdaml_core", *command], capture_output=True, text=True, check=False
    )
    states = {each["what"]: each["state"] for each in json.loads(done.stdout)["findings"] if each["group"] == "store"}
    assert set(states.values()) == {"ok"}, states
    assert {"credentials", "table", "billing", "expiry", "create once", "list"} <= set(states)
    assert client_of(server).describe_table(TableName="made-by-command")["Table"]["TableStatus"] == "ACTIVE"
