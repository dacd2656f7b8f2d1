"""Which requests reach the server, counted in front of it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lambdaml_core.comm.cost import predict
from lambdaml_core.comm.engine import Engine
from lambdaml_core.errors import KeyNotFound, StorageUnavailable
from lambdaml_core.storage import FullStorage, build_storage, open_storage
from lambdaml_core.storage.layers import Complete, Counts
from lambdaml_core.testing.threads import together
from lambdaml_s3.proxy import Answer, Proxy, Seen, s3_proxy
from lambdaml_s3.testing import BUCKET, S3Server, s3_server

LIMIT_S = 120.0
MIB = 1 << 20

_places = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with s3_proxy(server.endpoint) as started:
        yield started


@pytest.fixture
def url(server: S3Server, proxy: Proxy) -> str:
    return server.url_of(f"{BUCKET}/wire-{next(_places)}", proxy.endpoint)


@pytest.fixture
def storage(url: str) -> Iterator[FullStorage]:
    with contextlib.closing(Complete(build_storage(url))) as opened:
        yield opened


def value(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def uploads(server: S3Server) -> list[object]:
    with contextlib.closing(server.client()) as client:
        return [*client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 8 * MIB])
def test_a_value_of_one_part_is_one_request(storage: FullStorage, proxy: Proxy, size: int) -> None:
    data = value(size)
    storage.put("k", [data])
    storage.put("once", [data[: size // 2], data[size // 2 :]], if_absent=True)
    assert storage.get("k") == data
    assert storage.get("once") == data
    with pytest.raises(KeyNotFound):
        storage.get("none")
    assert proxy.kinds() == Counter(PUT=2, GET=2, MISS=1)


def test_a_larger_value_moves_in_parts_at_once(storage: FullStorage, proxy: Proxy, server: S3Server) -> None:
    data = value(27 * MIB + 1)  # four parts of 8 MiB
    proxy.refuse = at_once(4, "PART")
    storage.put("k", [memoryview(data)[:100], data[100:]])
    assert proxy.kinds() == Counter(START=1, PART=4, END=1)
    assert proxy.most_at_once == 4
    gets, rest = itertools.count(), at_once(3, "GET")
    proxy.refuse = lambda kind, path: rest(kind, path) if kind == "GET" and next(gets) else None
    proxy.forget()
    assert storage.get("k") == data
    assert proxy.kinds() == Counter(GET=4)
    assert proxy.most_at_once == 3, "the first tells how many more there are"
    assert uploads(server) == []


@pytest.mark.parametrize("key", ["round/409", "ConditionalRequestConflict"])
def test_no_name_of_a_key_passes_for_a_conflict(storage: FullStorage, proxy: Proxy, key: str) -> None:
    assert storage.put(key, [b"first"], if_absent=True)
    assert not storage.put(key, [b"second"], if_absent=True)
    assert storage.get(key) == b"first"
    assert proxy.kinds() == Counter(PUT=2, GET=1)


def at_once(count: int, *kinds: str) -> Callable[[str, str], None]:
    """Requests of these kinds wait until there are so many."""
    gate = threading.Barrier(count)

    def wait(kind: str, _path: str) -> None:
        if kind in kinds:
            gate.wait(LIMIT_S)

    return wait


def test_one_connection_moves_values_whole(url: str, proxy: Proxy) -> None:
    with contextlib.closing(build_storage(f"{url}&parallel=1")) as storage:
        data = value(9 * MIB)
        storage.put("k", [data])
        assert proxy.kinds() == Counter(PUT=1)
        assert storage.get("k") == data


@pytest.mark.parametrize("answer", [Answer(503, "SlowDown"), "drop"], ids=["refused", "dropped"])
@pytest.mark.parametrize("at", ["START", "PART", "END"])
def test_an_upload_that_fails_is_given_up(
    storage: FullStorage, proxy: Proxy, server: S3Server, at: str, answer: Answer | str
) -> None:
    storage.put("k", [b"before"])
    parts = itertools.count()
    proxy.refuse = lambda kind, _: answer if kind == at and (at != "PART" or next(parts) == 2) else None
    with pytest.raises(StorageUnavailable):
        storage.put("k", [value(25 * MIB)])
    assert storage.get("k") == b"before"
    assert proxy.kinds()["ABORT"] == (at != "START")
    assert uploads(server) == []


def test_a_value_that_is_replaced_while_it_is_read_is_read_again(
    storage: FullStorage, proxy: Proxy, server: S3Server, url: str
) -> None:
    old, new = value(20 * MIB), value(18 * MIB)
    storage.put("k", [old])
    direct = build_storage(url.replace(proxy.endpoint, server.endpoint))
    firsts = itertools.count()

    def replace(kind: str, _path: str) -> None:
        if kind == "GET" and next(firsts) == 0:
            direct.put("k", [new])

    proxy.after = replace  # the first part is on its way, and is the old value's
    assert storage.get("k") == new
    direct.close()


def test_a_value_that_has_become_shorter_is_read_again(storage: FullStorage, proxy: Proxy) -> None:
    """Where a service looks at the range of a part before it looks whose part it is."""
    storage.put("k", [value(20 * MIB)])
    gets = itertools.count()
    beyond = Answer(416, "InvalidRange")
    proxy.refuse = lambda kind, _: beyond if kind == "GET" and next(gets) == 1 else None
    same = storage.get("k") == value(20 * MIB)
    assert same


def test_deletes_go_by_a_thousand(url: str, storage: FullStorage, proxy: Proxy) -> None:
    """AWS refuses more at once; SeaweedFS does not, so that the requests are looked at."""
    keys = [f"many/{i}" for i in range(2345)]
    storage.put_many({key: [b""] for key in keys[::100]})
    proxy.forget()
    with contextlib.closing(build_storage(url)) as bare:
        bare.delete(keys)
    assert [each.keys for each in proxy.seen] == [1000, 1000, 345]
    assert proxy.kinds() == Counter(DELETE=3)
    proxy.forget()
    assert list(storage.list("")) == []
    storage.delete([])
    assert proxy.kinds() == Counter(LIST=1)


def test_listings_go_through_all_pages(storage: FullStorage, proxy: Proxy) -> None:
    keys = sorted(f"page/{i * 7919 % 1100}" for i in range(1100))
    storage.put_many({key: [b""] for key in keys})
    storage.put("pages", [b""])
    proxy.forget()
    assert list(storage.list("page/")) == keys
    assert proxy.kinds() == Counter(LIST=2)
    assert list(storage.list("page")) == [*keys, "pages"]
    assert list(storage.list("page/10")) == [key for key in keys if key.startswith("page/10")]


def test_one_of_sixteen_creates(server: S3Server, url: str, proxy: Proxy) -> None:
    """At the server itself, which decides, with no proxy in between."""
    clients = [build_storage(url.replace(proxy.endpoint, server.endpoint)) for _ in range(16)]
    works = [functools.partial(client.put, "race", [b"%d" % i], if_absent=True) for i, client in enumerate(clients)]
    created = together(*works, limit_s=LIMIT_S)
    assert created.count(True) == 1
    assert all(bytes(client.get("race")) == b"%d" % created.index(True) for client in clients)
    for client in clients:
        client.close()


@pytest.mark.parametrize(("aggregators", "floats"), [(1, 100), (4, 100), (4, 300_000), (2, 2_000_000)])
def test_a_round_makes_the_requests_of_the_pattern(url: str, proxy: Proxy, aggregators: int, floats: int) -> None:
    """And polls, each of which is a get of a value that is waited for; nobody lists or asks whether it is there."""
    size, rounds = 4, 3
    counts = [Counts() for _ in range(size)]
    channels = [open_storage(url, counts=each) for each in counts]

    def work(rank: int) -> list[bytes]:
        engine = Engine(channels[rank], rank=rank, size=size, aggregators=aggregators)
        sums = []
        for turn in range(rounds):
            x = np.full(floats, rank + turn, np.float32)
            engine.all_reduce({"x": x})
            sums.append(x.tobytes())
        engine.close()  # deletes may be put off
        return sums

    outcomes = together(*(functools.partial(work, rank) for rank in range(size)), limit_s=LIMIT_S)
    expected = [np.full(floats, 6 + 4 * turn, np.float32).tobytes() for turn in range(rounds)]
    assert all(outcome == expected for outcome in outcomes)
    predicted = predict(channels[0].caps, size=size, aggregators=aggregators, nbytes=4 * floats)
    kinds = proxy.kinds()
    assert set(kinds) <= {"PUT", "GET", "MISS", "DELETE"}
    assert kinds["PUT"] == rounds * predicted.put == sum(each.put for each in counts)
    assert kinds["GET"] == rounds * predicted.get == sum(each.get - each.missed for each in counts)
    assert kinds["MISS"] == sum(each.missed for each in counts)
    deleted = sum(each.keys for each in proxy.seen if each.kind == "DELETE")
    assert deleted == sum(each.delete for each in counts) <= rounds * predicted.delete
    for channel in channels:
        channel.close()


def test_requests_are_seen_as_what_they_are(storage: FullStorage, proxy: Proxy) -> None:
    """The proxy counts: else these tests would say nothing."""
    storage.put("k", [b"x"])
    list(storage.list("k"))
    storage.delete(["k"])
    assert [each.kind for each in proxy.seen] == ["PUT", "LIST", "DELETE"]
    assert proxy.seen[0] == Seen("PUT", proxy.seen[0].path, 200)
