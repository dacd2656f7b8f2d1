"""What ``lambdaml doctor`` looks at in AWS for a table, and how it makes one; workers do not import this."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lambdaml_core.errors import StorageError, StorageUnavailable
from lambdaml_core.findings import Finding
from lambdaml_dynamodb.client import Client
from lambdaml_dynamodb.failures import TableInUse, TableMissing
from lambdaml_dynamodb.layout import KEYS, TIME, TYPES

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef

_CREATED_S, _LOOK_S = 120.0, 0.25  # a new table is there within seconds


def checks(client: Client) -> Iterator[Finding]:
    """Look at credentials, keys, billing and expiry of a table."""
    try:
        yield Finding(what="credentials", state="ok", said=f"found by the way {client.credentials()} of boto3")
        table = _described(client)
        yield _keys(client, table)
        yield _billing(client, table)
        yield _expiry(client)
    except TableMissing as e:
        yield Finding(what="table", state="problem", said=e.message, remedy=e.hint, fix=lambda: create_table(client))
    except StorageError as e:
        remedy = e.hint or "see whether it can be reached, and the AWS configuration"
        yield Finding(what="table", state="problem", said=e.message, remedy=remedy)


def create_table(client: Client) -> None:
    """Create the table, paid by request, where there is none; wait until it can be used; have DynamoDB remove what is
    over. Idempotent.

    Raises:
        StorageDenied, StorageUnavailable, StorageError
    """
    with contextlib.suppress(TableInUse):  # somebody else makes it
        client.ask(
            lambda c: c.create_table(
                TableName=client.table, BillingMode="PAY_PER_REQUEST", KeySchema=KEYS, AttributeDefinitions=TYPES
            )
        )
    give_up = time.monotonic() + _CREATED_S
    while not _is_active(client):
        if time.monotonic() > give_up:
            raise StorageUnavailable(
                f"the table {client.table} is not ready after {_CREATED_S:g} s", hint="look again in a minute"
            )
        time.sleep(_LOOK_S)
    if not _expires(client):
        _enable_expiry(client)


def _is_active(client: Client) -> bool:
    try:
        return _described(client).get("TableStatus") == "ACTIVE"
    except TableMissing:  # nobody has told all of AWS yet
        return False


def _described(client: Client) -> TableDescriptionTypeDef:
    return client.ask(lambda c: c.describe_table(TableName=client.table))["Table"]


def _keys(client: Client, table: TableDescriptionTypeDef) -> Finding:
    keys = sorted((k["AttributeName"], k["KeyType"]) for k in table.get("KeySchema", []))
    types = {(a["AttributeName"], a["AttributeType"]) for a in table.get("AttributeDefinitions", [])}
    ours = sorted((k["AttributeName"], k["KeyType"]) for k in KEYS)
    if keys != ours or not {(a["AttributeName"], a["AttributeType"]) for a in TYPES} <= types:
        said = (
            f"the keys of {client.table} are {', '.join(f'{name} ({kind})' for name, kind in keys)}, which are not ours"
        )
        return Finding(what="table", state="problem", said=said, remedy="name a table that lambdaml doctor --fix makes")
    status = table.get("TableStatus", "")
    if status not in ("ACTIVE", "UPDATING"):
        said = f"{client.table} is {status}"
        return Finding(what="table", state="problem", said=said, remedy="look again in a minute")
    return Finding(what="table", state="ok", said=f"{client.table} is there, with the right keys")


def _billing(client: Client, table: TableDescriptionTypeDef) -> Finding:
    if table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return Finding(what="billing", state="ok", said="by request")
    room = table.get("ProvisionedThroughput", {})
    reads, writes = room.get("ReadCapacityUnits", 0), room.get("WriteCapacityUnits", 0)
    return Finding(
        what="billing",
        state="warning",
        said=f"{reads} units read and {writes} written a second are paid for, and more than that is refused",
        remedy=f"aws dynamodb update-table --table-name {client.table} --billing-mode PAY_PER_REQUEST",
        values={"read_units": reads, "write_units": writes},
    )


def _expiry(client: Client) -> Finding:
    if _expires(client):
        return Finding(what="expiry", state="ok", said="DynamoDB removes what is over")
    return Finding(
        what="expiry",
        state="warning",
        said=f"DynamoDB does not remove what is over from {client.table}: storing it costs for ever",
        remedy=f"lambdaml doctor --fix, which enables its time to live in the attribute {TIME}",
        fix=lambda: _enable_expiry(client),
    )


def _expires(client: Client) -> bool:
    answer = client.ask(lambda c: c.describe_time_to_live(TableName=client.table))["TimeToLiveDescription"]
    return answer.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") and answer.get("AttributeName") == TIME


def _enable_expiry(client: Client) -> None:
    client.ask(
        lambda c: c.update_time_to_live(
            TableName=client.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": TIME}
        )
    )
