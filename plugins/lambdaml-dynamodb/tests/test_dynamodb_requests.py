"""What is asked of DynamoDB: within its limits, which a stand-in need not hold, and again where something was left."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from dynamodb_help import Answer, Proxy, client_of, opened, proxy

from lambdaml_core.errors import KeyNotFound, StorageUnavailable
from lambdaml_core.storage import open_storage, storage_reference
from lambdaml_core.storage.layers import Counts
from lambdaml_core.testing.threads import together
from lambdaml_dynamodb import client, layout
from lambdaml_dynamodb.testing import TABLE, DynamoDBServer, dynamodb_server

Forward = Callable[[Any], Answer]


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoDBServer]:
    with dynamodb_server() as started:
        yield started


@pytest.fixture
def between(server: DynamoDBServer) -> Iterator[Proxy]:
    with proxy(server) as ours:
        yield ours


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A prefix of the table that no other test has."""
    return f"{TABLE}/{request.node.name.replace('[', '-').replace(']', '').replace(' ', '-')}"


def item_bytes(item: dict[str, dict[str, str]]) -> int:
    """As AWS counts: names and values in bytes; a number has half a byte for each digit, and one more, rounded up."""
    size = 0
    for name, value in item.items():
        ((kind, text),) = value.items()
        size += len(name.encode())
        if kind == "B":
            size += len(base64.b64decode(text))
        elif kind == "N":
            size += (len(text) + 1) // 2 + 1
        else:
            size += len(text.encode())
    return size


def test_requests_keep_the_limits(between: Proxy, place: str) -> None:
    largest = bytes(layout.MAX_VALUE_BYTES)
    with opened(between.url(place)) as storage:
        small = {f"small/{i}": [b"x"] for i in range(230)}
        large = {"large/" + "k" * (250 - 7) + str(i): [largest] for i in range(5)}
        storage.put_many(small)
        assert len(storage.get_many(list(small))) == 230
        storage.put_many(large, ttl_s=1e9)
        for _ in range(2):  # before it has seen how large values are, and then
            assert len(storage.get_many([*large, *large])) == 5
        storage.put("large/again", [largest], if_absent=True, ttl_s=1e9)
        storage.get("large/again")
        assert len(list(storage.list(""))) == 236
        storage.delete([*small, *small, *large, "large/again"])
        assert list(storage.list("")) == []
    kinds = {operation for operation, _ in between.seen}
    assert kinds == {"BatchGetItem", "BatchWriteItem", "GetItem", "PutItem", "Query"}, "as the policy in README allows"
    for reads in between.of("BatchGetItem"):
        assert reads["RequestItems"][TABLE]["ConsistentRead"] is True
        keys = [json.dumps(key) for key in reads["RequestItems"][TABLE]["Keys"]]
        assert len(keys) == len(set(keys)) <= 100
    for read in [*between.of("GetItem"), *between.of("Query")]:
        assert read["ConsistentRead"] is True
    for writes in between.of("BatchWriteItem"):
        requests = writes["RequestItems"][TABLE]
        assert len(requests) <= 25
        assert len({json.dumps(each) for each in requests}) == len(requests)
        assert len(json.dumps(writes)) <= 16 << 20
        for item in [each["PutRequest"]["Item"] for each in requests if "PutRequest" in each]:
            assert item_bytes(item) <= 400 << 10
    for put in between.of("PutItem"):
        assert item_bytes(put["Item"]) <= 400 << 10


def test_many_small_values_are_few_requests_and_large_ones_move_at_once(between: Proxy, place: str) -> None:
    with opened(between.url(place)) as storage:
        large = {f"large/{i}": [bytes(300_000)] for i in range(6)}
        storage.put_many(large)
        assert len(between.of("BatchWriteItem")) == 2, "three of 300 KB a request"
        storage.get_many(list(large))
        assert len(between.of("BatchGetItem")) == 1, "nothing is known of them yet"
        storage.get_many(list(large))
        assert len(between.of("BatchGetItem")) == 3
        storage.put_many({f"small/{i}": [b"x"] for i in range(50)})
        assert len(between.of("BatchWriteItem")) == 4
        storage.delete([*large, *(f"small/{i}" for i in range(50))])
        assert len(between.of("BatchWriteItem")) == 7


def test_no_more_requests_at_once_than_connections(between: Proxy, place: str) -> None:
    with opened(between.url(place, connections=3)) as storage:
        assert storage.caps.parallel == 3
        storage.put_many({f"k/{i}": [b"x"] for i in range(40)}, if_absent=True)
        list(storage.list(""))
        assert between.at_once <= 3
        assert len(between.of("PutItem")) == 40


class Leaving:
    """Of the first requests of each kind of batch, only the first few parts are processed."""

    def __init__(self, done: int, requests: int) -> None:
        self._done, self._requests = done, requests
        self._count = Counter[str]()

    def __call__(self, operation: str, parameters: dict[str, Any], forward: Forward) -> Answer | None:
        self._count[operation] += 1
        if not operation.startswith("Batch") or self._count[operation] > self._requests:
            return None
        asked, reads = parameters["RequestItems"][TABLE], operation == "BatchGetItem"
        parts = asked["Keys"] if reads else asked

        def items(some: list[Any]) -> dict[str, Any]:
            return {TABLE: {**asked, "Keys": some} if reads else some}

        done, left = parts[: self._done], parts[self._done :]
        status, said = forward({"RequestItems": items(done)}) if done else (200, {"Responses": {}})
        return status, {**said, "UnprocessedKeys" if reads else "UnprocessedItems": items(left) if left else {}}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries."""
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("done", [0, 1, 4])
def test_what_a_batch_leaves_is_asked_for_again(between: Proxy, place: str, done: int) -> None:
    values = {f"k/{i}": [b"%d" % i] for i in range(6)}
    with opened(between.url(place)) as storage:
        between.intercept = Leaving(done, 3)
        assert sorted(storage.put_many(values)) == sorted(values)
        found = {key: bytes(data) for key, data in storage.get_many([*values, "none"]).items()}
        assert found == {key: parts[0] for key, parts in values.items()}
        between.intercept = Leaving(done, 3)
        storage.delete(values)
        assert storage.get_many(list(values)) == {}
    left = between.of("BatchWriteItem")[1]["RequestItems"][TABLE]
    assert len(left) == 6 - done, "only what was left is sent again"


@pytest.mark.usefixtures("hasty")
def test_what_is_always_left_is_an_error_in_passing(between: Proxy, place: str) -> None:
    between.intercept = Leaving(0, 1000)
    with opened(between.url(place)) as storage:
        with pytest.raises(StorageUnavailable, match="left 2 of a batch undone"):
            storage.get_many(["a", "b"])
        with pytest.raises(StorageUnavailable, match="left 1 of a batch undone"):
            storage.delete(["a"])


def test_a_listing_of_many_pages_is_whole(between: Proxy, place: str) -> None:
    """A page ends after a megabyte of values, though only keys are asked for."""
    prefix = place.partition("/")[2]
    one_shard = [k for k in (f"p/{i}" for i in range(200)) if layout.shard_of(f"{prefix}/{k}") == "7"][:8]
    with opened(between.url(place)) as storage:
        storage.put_many({key: [bytes(400_000)] for key in one_shard})
        assert list(storage.list("p/")) == sorted(one_shard)
        pages = [page for page in between.of("Query") if "ExclusiveStartKey" in page]
        assert len(pages) >= 2
        storage.delete(storage.list(""))
        assert list(storage.list("")) == []


def test_large_values_are_cut_and_leave_nothing(server: DynamoDBServer, place: str) -> None:
    value = bytes(range(256)) * 12_000
    storage = open_storage(server.url_of(place))
    assert storage.put("large", [value[:5], value[5:]], if_absent=True)
    assert storage.put("large", [b"other"], if_absent=True) is False
    same = storage.get("large") == value
    assert same
    storage.delete(["large"])
    storage.close()
    with opened(server.url_of(place)) as own:
        assert list(own.list("")) == []


# --- values whose time is over, and which DynamoDB has not removed yet ----------------------------------------------


def left_over(server: DynamoDBServer, place: str, key: str, second: int) -> None:
    """Put a value whose time is over since that second of the epoch."""
    name = f"{place.partition('/')[2]}/{key}"
    item = {**layout.primary_key(name), "v": {"B": b"old"}, "t": {"N": str(second)}}
    client_of(server).put_item(TableName=TABLE, Item=item)


def test_what_is_over_is_gone_for_everybody(server: DynamoDBServer, place: str) -> None:
    with opened(server.url_of(place)) as storage:
        storage.put("stays", [b"x"], ttl_s=3600)
        for key in ("a", "b"):
            left_over(server, place, key, 1_700_000_000)
        with pytest.raises(KeyNotFound):
            storage.get("a")
        assert list(storage.get_many(["a", "b", "stays"])) == ["stays"]
        assert list(storage.list("")) == ["stays"]
        assert storage.put("a", [b"new"], if_absent=True) is True
        assert storage.put("a", [b"newer"], if_absent=True) is False
        assert storage.put_many({"a": [b"no"], "b": [b"new"], "stays": [b"no"]}, if_absent=True) == ["b"]
        assert {key: bytes(data) for key, data in storage.get_many(["a", "b"]).items()} == {"a": b"new", "b": b"new"}


def test_one_of_many_creates_over_what_is_over(server: DynamoDBServer, place: str) -> None:
    left_over(server, place, "raced", 1_700_000_000)
    with opened(server.url_of(place)) as storage:
        created = together(
            *[partial(storage.put, "raced", [b"%d" % me], if_absent=True) for me in range(6)], limit_s=60
        )
        assert created.count(True) == 1
        assert bytes(storage.get("raced")) == b"%d" % created.index(True)


def test_times_are_whole_seconds_and_never_early(between: Proxy, place: str) -> None:
    before = time.time()
    with opened(between.url(place, expire_s=500)) as storage:
        storage.put("own", [b""], ttl_s=100.5)
        storage.put("usual", [b""], if_absent=True)
        storage.put_many({"many": [b""], "more": [b""]}, ttl_s=7)
    after = time.time()
    items = [put["Item"] for put in between.of("PutItem")]
    items += [each["PutRequest"]["Item"] for w in between.of("BatchWriteItem") for each in w["RequestItems"][TABLE]]
    for item, lifetime in zip(items, (100.5, 500, 7, 7), strict=True):
        assert before + lifetime <= int(item["t"]["N"]) <= after + lifetime + 1


def test_values_of_a_channel_expire_and_those_of_a_store_do_not(between: Proxy, place: str) -> None:
    url = between.url(place)
    for channel in (True, False):
        storage = open_storage(url, storage_reference(url, channel=channel))
        storage.put("k", [b"x"])
        storage.close()
    channels, stores = (put["Item"] for put in between.of("PutItem"))
    assert int(channels["t"]["N"]) > time.time() + 86_000
    assert "t" not in stores


def test_what_is_counted_is_what_is_asked_for(between: Proxy, place: str) -> None:
    counts = Counts()
    storage = open_storage(between.url(place), counts=counts)
    storage.put("a", [b"12345"], if_absent=True)
    storage.get("a")
    storage.delete(["a"])
    storage.close()
    assert (counts.put, counts.get, counts.delete, counts.sent, counts.received) == (1, 1, 1, 5, 5)
