"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import StorageSpec
from lambdaml_dynamodb.options import DynamoDBOptions

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    """The storage ``dynamodb://``."""
    yield StorageSpec(
        name="dynamodb",
        schemes=("dynamodb",),
        factory="lambdaml_dynamodb.storage:DynamoDBStorage",
        options=DynamoDBOptions,
        summary="Values as items of a table of Amazon DynamoDB",
        channel={"expire_s": 86_400.0},  # what a lost run leaves there goes by itself; a store keeps its values
    )
