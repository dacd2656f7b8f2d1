"""``dynamodb://table/prefix``: values as items of a table, created by condition and read consistently."""

from __future__ import annotations

import heapq
import itertools
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from lambdaml_core.errors import KeyNotFound, URLError, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.layers import size_of
from lambdaml_core.storage.parallel import Parallel
from lambdaml_dynamodb.client import Client
from lambdaml_dynamodb.layout import (
    KEY,
    MAX_KEY_BYTES,
    MAX_PREFIX_BYTES,
    MAX_VALUE_BYTES,
    SHARDS,
    TIME,
    VALUE,
    Item,
    is_over,
    overhead_bytes,
    primary_key,
    time_of,
)
from lambdaml_dynamodb.options import DynamoDBOptions
from lambdaml_dynamodb.prices import usd
from lambdaml_dynamodb.table import GET_AT_MOST, WRITE_AT_MOST, Table

T = TypeVar("T")

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_ENDPOINT = re.compile(r"https?://[^/@?#]+/?")

_BATCH_BYTES = 1 << 20  # of values: more of them move quicker in several requests at once

_LATENCY_S = 0.005  # medians in us-east-1: 3.9 ms of a get, 5.6 ms of a put


class DynamoDBStorage:
    """A table, or the keys of it that start with a prefix.

    Args:
        url: ``dynamodb://table/prefix``.

    Raises:
        URLError: it names no table, or has a user, a password or a port.
        StorageError: its prefix cannot be part of a key.
    """

    def __init__(self, url: StorageURL, options: DynamoDBOptions) -> None:
        _check(url, options)
        path = url.path.strip("/")
        self._prefix = f"{check_key(path, MAX_PREFIX_BYTES)}/" if path else ""
        self._expire_s = options.expire_s
        self._client = Client(url.host, options)
        self._table = Table(self._client)
        self._parallel = Parallel(options.connections)
        self._usual_bytes = 0  # of the values that came last
        self.caps = StorageCaps(
            scope="network",
            max_value_bytes=MAX_VALUE_BYTES,
            max_key_bytes=MAX_KEY_BYTES,
            parallel=options.connections,
            creates_once=True,
            expires=True,
            durable=True,
            evicts=False,
            latency_s=_LATENCY_S,
            usd=usd(overhead_bytes(self._prefix), len(SHARDS)),
        )

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        item = self._item(key, data, ttl_s)
        if if_absent:
            return self._table.create(item)
        self._table.put(item)
        return True

    def get(self, key: str) -> Buffer:
        found = self.get_many([key])
        if key not in found:
            raise KeyNotFound(f"there is no {key} in the table {self._client.table}")
        return found[key]

    def delete(self, keys: Iterable[str]) -> None:
        names = list(dict.fromkeys(self._name(key) for key in keys))
        self._parallel.map(self._table.delete_batch, _cut(names, WRITE_AT_MOST))

    def close(self) -> None:
        self._parallel.close()
        self._client.close()

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        made = {key: self._item(key, data, ttl_s) for key, data in items.items()}
        if if_absent:  # a batch knows no conditions
            created = self._parallel.map(self._table.create, list(made.values()))
            return [key for key, stored in zip(made, created, strict=True) if stored]
        most = min(WRITE_AT_MOST, _in_a_batch(max(map(size_of, items.values()), default=0)))
        self._parallel.map(self._table.put_batch, _cut(list(made.values()), most))
        return list(made)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        """As :meth:`~lambdaml_core.storage.base.SupportsMany.get_many`, but returns at once: DynamoDB has no waits."""
        names = {self._name(key): key for key in keys}
        now = time.time()
        batches = _cut(list(names), min(GET_AT_MOST, _in_a_batch(self._usual_bytes)))
        items = itertools.chain.from_iterable(self._parallel.map(self._table.get_batch, batches))
        found: dict[str, Buffer] = {names[i[KEY]["S"]]: i[VALUE]["B"] for i in items if not is_over(i, now)}
        if found:
            self._usual_bytes = sum(map(len, found.values())) // len(found)
        return found

    def list(self, prefix: str) -> Iterator[str]:
        """As :meth:`~lambdaml_core.storage.base.SupportsList.list`: a query for each shard, page after page."""
        found = self._parallel.map(lambda shard: self._table.query(shard, self._prefix + prefix), SHARDS)
        return (name.removeprefix(self._prefix) for name in heapq.merge(*found))

    def checks(self) -> Iterator[Finding]:
        """What keeps the table from being used; ``doctor --fix`` creates it."""
        from lambdaml_dynamodb.checks import checks  # which workers do not need

        return checks(self._client)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key, MAX_KEY_BYTES)

    def _item(self, key: str, data: Parts, ttl_s: float | None) -> Item:
        name, size = self._name(key), size_of(data)
        if size > MAX_VALUE_BYTES:
            raise ValueTooLarge(f"{key}: {size} bytes are more than the {MAX_VALUE_BYTES} that an item has room for")
        item = {**primary_key(name), VALUE: {"B": b"".join(data)}}
        lifetime_s = self._expire_s if ttl_s is None else ttl_s
        if lifetime_s is not None:
            item[TIME] = {"N": str(time_of(time.time(), lifetime_s))}
        return item


def _check(url: StorageURL, options: DynamoDBOptions) -> None:
    if not _TABLE.fullmatch(url.host):
        raise URLError(
            "a dynamodb URL names a table by 3 to 255 letters, digits, '_', '-' and '.'",
            hint="write it as dynamodb://table/prefix?region=us-east-1",
        )
    if url.user or url.password or url.port is not None:
        raise URLError(
            f"the dynamodb URL of the table {url.host} has a user, a password or a port",
            hint="credentials come from the AWS configuration (profile=...), a server by endpoint_url=http://host:port",
        )
    if options.endpoint_url is not None and not _ENDPOINT.fullmatch(options.endpoint_url):
        raise URLError(
            f"the endpoint_url of the table {url.host} is not http(s)://host:port",
            hint="credentials do not belong in it: they come from the AWS configuration",
        )


def _in_a_batch(value_bytes: int) -> int:
    """How many values of this size go into one request."""
    return max(1, _BATCH_BYTES // max(1, value_bytes))


def _cut(parts: Sequence[T], most: int) -> Sequence[Sequence[T]]:
    return [parts[i : i + most] for i in range(0, len(parts), most)]
