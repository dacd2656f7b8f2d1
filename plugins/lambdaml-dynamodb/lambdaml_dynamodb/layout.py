"""How values lie in the table.

A value is one item: ``p`` is the shard, one of 16, that the hash of its key falls into; ``k`` the key, as the sort key;
``v`` the bytes; ``t`` the second of the epoch from which on the value is over, if it ever is.

So writes of one run spread over 16 partitions however its keys are called, each good for 1,000 units a second written
and 3,000 read before DynamoDB splits it further; and a listing is one query for each shard, of exactly the keys that
start with the prefix. A table with keys alone could only be listed by reading all of it, and one with the keys' folders
as partitions would have all workers of a round write to one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeDefinitionTypeDef, KeySchemaElementTypeDef

Item: TypeAlias = Mapping[str, Any]
"""Attributes by name, each ``{type: value}``."""

SHARD, KEY, VALUE, TIME = "p", "k", "v", "t"  # names count as bytes of every item

SHARDS = tuple("0123456789abcdef")

KEYS: Sequence[KeySchemaElementTypeDef] = [
    {"AttributeName": SHARD, "KeyType": "HASH"},
    {"AttributeName": KEY, "KeyType": "RANGE"},
]
TYPES: Sequence[AttributeDefinitionTypeDef] = [
    {"AttributeName": SHARD, "AttributeType": "S"},
    {"AttributeName": KEY, "AttributeType": "S"},
]

MAX_ITEM_BYTES = 400 << 10
"""What DynamoDB takes: names and values of all attributes of an item."""

MAX_KEY_BYTES = 250
MAX_PREFIX_BYTES = 512

MAX_VALUE_BYTES = MAX_ITEM_BYTES - 1024
"""399 KiB: the longest key behind the longest prefix, and everything else of an item, take less than the rest."""

_FIXED_BYTES = 32  # four names, a shard, and a number of at most 21 bytes


def overhead_bytes(prefix: str) -> int:
    """Most bytes of an item beside its value, where all keys start with ``prefix``."""
    return _FIXED_BYTES + len(prefix) + MAX_KEY_BYTES


def shard_of(name: str) -> str:
    """The shard of a key, prefix included."""
    return SHARDS[zlib.crc32(name.encode()) % len(SHARDS)]


def primary_key(name: str) -> dict[str, Any]:
    """What DynamoDB finds an item by."""
    return {SHARD: {"S": shard_of(name)}, KEY: {"S": name}}


def time_of(now: float, lifetime_s: float) -> int:
    """The second from which on a value is over: whole, as DynamoDB wants it, and never too early."""
    return math.ceil(now + lifetime_s)


def is_over(item: Item, now: float) -> bool:
    """Whether an item's time has come: DynamoDB removes it days later, and nobody may see it until then."""
    return TIME in item and int(item[TIME]["N"]) <= now
