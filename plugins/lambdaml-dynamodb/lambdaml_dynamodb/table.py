"""The requests that items of the table are made, found and removed by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lambdaml_dynamodb.client import Client
from lambdaml_dynamodb.failures import ConditionFailed
from lambdaml_dynamodb.layout import KEY, SHARD, TIME, Item, is_over, primary_key

GET_AT_MOST, WRITE_AT_MOST = 100, 25
"""How many items a batch takes."""

_ABSENT = f"attribute_not_exists({KEY}) OR {TIME} <= :now"


class Table:
    """A table; every read sees all writes that were answered before it."""

    def __init__(self, client: Client) -> None:
        self._client, self._name = client, client.table

    def get_batch(self, names: Sequence[str]) -> list[Item]:
        """Those items that exist of at most :data:`GET_AT_MOST` different keys."""
        if len(names) == 1:
            answer = self._client.ask(
                lambda c: c.get_item(TableName=self._name, Key=primary_key(names[0]), ConsistentRead=True)
            )
            return [answer["Item"]] if "Item" in answer else []
        items: list[Item] = []

        def send(keys: list[Any]) -> list[Any]:
            answer = self._client.ask(
                lambda c: c.batch_get_item(RequestItems={self._name: {"Keys": keys, "ConsistentRead": True}})
            )
            items.extend(answer["Responses"].get(self._name, []))
            unprocessed = answer.get("UnprocessedKeys", {})
            return [*unprocessed[self._name]["Keys"]] if self._name in unprocessed else []

        self._client.exhaust(send, [primary_key(name) for name in names])
        return items

    def put(self, item: Item) -> None:
        """Store an item, whatever was there."""
        self._client.ask(lambda c: c.put_item(TableName=self._name, Item=item))

    def create(self, item: Item) -> bool:
        """Store an item unless there is one whose time is not over; whether it was stored."""
        now = {":now": {"N": str(int(time.time()))}}
        try:
            self._client.ask(
                lambda c: c.put_item(
                    TableName=self._name, Item=item, ConditionExpression=_ABSENT, ExpressionAttributeValues=now
                )
            )
        except ConditionFailed:
            return False
        return True

    def put_batch(self, items: Sequence[Item]) -> None:
        """Store at most :data:`WRITE_AT_MOST` items of different keys, whatever was there."""
        if len(items) == 1:
            self.put(items[0])
        else:
            self._write([{"PutRequest": {"Item": item}} for item in items])

    def delete_batch(self, names: Sequence[str]) -> None:
        """Remove the items of at most :data:`WRITE_AT_MOST` different keys."""
        self._write([{"DeleteRequest": {"Key": primary_key(name)}} for name in names])

    def query(self, shard: str, prefix: str) -> list[str]:
        """The keys of a shard that start with the prefix, in order."""
        condition, values = f"{SHARD} = :shard", {":shard": {"S": shard}}
        if prefix:
            condition += f" AND begins_with({KEY}, :prefix)"
            values[":prefix"] = {"S": prefix}
        names: list[str] = []
        start: dict[str, Any] = {}
        while True:
            page = self._page(condition, values, start)
            now = time.time()
            names += [item[KEY]["S"] for item in page["Items"] if not is_over(item, now)]
            if "LastEvaluatedKey" not in page:
                return names
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _page(self, condition: str, values: dict[str, Any], start: dict[str, Any]) -> Any:
        return self._client.ask(
            lambda c: c.query(
                TableName=self._name,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                ProjectionExpression=f"{KEY}, {TIME}",
                ConsistentRead=True,
                **start,
            )
        )

    def _write(self, requests: list[Any]) -> None:
        def send(batch: list[Any]) -> list[Any]:
            answer = self._client.ask(lambda c: c.batch_write_item(RequestItems={self._name: batch}))
            return [*answer.get("UnprocessedItems", {}).get(self._name, [])]

        self._client.exhaust(send, requests)
