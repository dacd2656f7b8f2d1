"""What becomes of values: memory that ends, large ones, expiry, and keys of other programs."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis_help import LARGE, control, findings, in_one_line, opened

from lambdaml_core.errors import (
    KeyNotFound,
    StorageError,
    StorageFull,
)
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_redis.options import RedisOptions
from lambdaml_redis.resp import Commands, Reply
from lambdaml_redis.storage import RedisStorage
from lambdaml_redis.testing import RedisServer, redis_server


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server(unix=True) as server:
        yield server


class TestMemory:
    def test_when_it_is_full_nothing_is_lost(self) -> None:
        with redis_server(unix=True, maxmemory=8 << 20) as server:
            storage = open_storage(server.url, interrupt=lambda: pytest.fail("it was tried again"))
            value = bytes(1 << 20)
            stored: list[str] = []

            def fill() -> None:
                for i in range(20):
                    storage.put(f"k/{i}", [value], if_absent=True)
                    stored.append(f"k/{i}")

            with contextlib.closing(storage):
                with pytest.raises(StorageFull) as refused:
                    fill()
                assert "maxmemory" in in_one_line(refused.value)
                assert len(stored) >= 3
                assert sorted(storage.list("")) == sorted(storage.get_many(stored)) == sorted(stored)
                storage.delete(stored)
                assert storage.put("k/0", [value], if_absent=True), "there is room again"
            (memory,) = (each for each in findings(server.url) if each.what == "memory")
            assert memory.state == "ok"

    def test_a_cache_drops_values_and_doctor_says_so(self) -> None:
        with redis_server(unix=True, maxmemory=8 << 20, policy="volatile-lru") as server, opened(server.url) as storage:
            keys = [f"k/{i}" for i in range(20)]
            for key in keys:
                assert storage.put(key, [bytes(1 << 20)], if_absent=True)
            assert 0 < len(storage.get_many(keys)) < len(keys)
            (memory,) = (each for each in findings(server.url) if each.what == "memory")
            assert memory.state == "warning"
            assert "noeviction" in str(memory.remedy)


class TestLargeValues:
    """They are strings, each beside a stream that says so."""

    def test_one_that_is_replaced_or_deleted_leaves_nothing(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=8") as storage, control(shared, db=8) as client:
            storage.put("k", [LARGE])
            assert client.dbsize() == 2
            storage.put("k", [b"small"])
            assert bytes(storage.get("k")) == b"small"
            assert client.dbsize() == 1
            storage.put("k", [LARGE, b"x"])
            assert bytes(storage.get("k")) == LARGE + b"x"
            storage.delete(["k"])
            assert client.dbsize() == 0

    def test_one_that_is_replaced_under_each_look_is_read(
        self, shared: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its stream tells of a string, which a small value has taken the place of when it is asked for, and so on."""
        ask, requests = RedisStorage._ask, itertools.count()
        with opened(shared.url + "?db=8") as writer:
            reader = RedisStorage(StorageURL.parse(shared.url + "?db=8"), RedisOptions(db=8))

            def harmed(storage: RedisStorage, commands: Commands) -> Sequence[Reply]:
                if storage is not reader or next(requests) % 2 == 0:
                    return ask(storage, commands)
                writer.put("k", [b"small"])
                answers = ask(storage, commands)
                writer.put("k", [LARGE])
                return answers

            writer.put("k", [LARGE])
            monkeypatch.setattr(RedisStorage, "_ask", harmed)
            with contextlib.closing(reader):
                assert bytes(reader.get("k")) == LARGE

    def test_one_that_was_evicted_is_not_there_and_can_be_put_again(self, shared: RedisServer) -> None:
        """Half of it, that is: who waits for it goes on when it is back."""
        with opened(shared.url + "?db=9") as storage, control(shared, db=9) as client:
            storage.put("k", [LARGE])
            (string,) = client.scan_iter(_type="string")
            client.delete(string)
            with pytest.raises(KeyNotFound):
                storage.get("k")
            assert storage.get_many(["k"], wait_s=0.05) == {}
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(storage.get_many, ["k"], wait_s=60)
                storage.put("k", [LARGE], if_absent=True)
                assert {key: bytes(value) for key, value in waiting.result().items()} == {"k": LARGE}

    def test_a_stream_that_was_evicted_is_made_again(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=10") as storage, control(shared, db=10) as client:
            storage.put("k", [LARGE])
            (stream,) = client.scan_iter(_type="stream")
            client.delete(stream)
            assert storage.get_many(["k"]) == {}
            assert storage.put("k", [LARGE], if_absent=True)
            assert bytes(storage.get("k")) == LARGE


class TestExpiry:
    def test_no_value_is_without_it(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=4&expire_s=1000") as storage, control(shared, db=4) as client:
            for name, keys in {"default": {}, "own": {"ttl_s": 5000.0}}.items():
                storage.put(f"{name}/put", [b"x"], **keys)
                storage.put(f"{name}/put", [b"y"], **keys)
                storage.put(f"{name}/once", [b"x"], if_absent=True, **keys)
                storage.put_many({f"{name}/many": [b"x"], f"{name}/large": [LARGE]}, **keys)
            # whoever comes too late changes nothing, the life neither
            assert storage.put("default/once", [b"z"], if_absent=True, ttl_s=9000.0) is False
            lives = {key.decode(): client.pttl(key) / 1000 for key in client.scan_iter()}
            assert len(lives) == 2 * 5, "and a large value is two keys"
            for key, life_s in lives.items():
                most = 1000 if key.startswith("lambdaml/default") else 5000
                assert 0.9 * most < life_s <= most, key

    def test_a_writer_that_dies_in_the_middle_leaves_nothing(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=5") as storage, socket.socket(socket.AF_UNIX) as dying:
            dying.connect(shared.url.removeprefix("redis+unix://"))
            dying.sendall(b"SELECT 5\r\nMULTI\r\nXADD lambdaml/k 1-1 d x\r\nPING\r\n")
            answers = b""
            while answers.count(b"\r\n") < 4:
                answers += dying.recv(100)
            dying.close()
            assert list(storage.list("")) == []
            assert storage.put("k", [b"mine"], if_absent=True)


class TestOtherPrograms:
    def test_their_keys_are_left_alone(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=7") as storage, control(shared, db=7) as client:
            client.set("lambdaml/theirs", "text")
            client.set("other", "text")
            storage.put("mine", [b"x"])
            assert list(storage.list("")) == ["mine"]
            with pytest.raises(StorageError, match="WRONGTYPE") as refused:
                storage.put("theirs", [b"x"], if_absent=True)
            assert "prefix" in in_one_line(refused.value)
            assert client.get("lambdaml/theirs") == b"text"
