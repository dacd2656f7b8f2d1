"""What only Redis does: logins, encryption, databases, servers that go, doctor's checks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis_help import LARGE, PASSWORD, control, findings, in_one_line, opened

from lambdaml_core.errors import (
    KeyNotFound,
    OptionError,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    URLError,
)
from lambdaml_core.storage import StorageURL, build_storage, open_storage
from lambdaml_core.testing.servers import free_port
from lambdaml_redis.options import RedisOptions
from lambdaml_redis.resp import Commands, Reply
from lambdaml_redis.storage import MAX_VALUE_BYTES, RedisStorage
from lambdaml_redis.testing import RedisServer, Tls, redis_server, valkey_server


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server(unix=True) as server:
        yield server


class TestLogin:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[RedisServer]:
        rules = "~lambdaml/* +@connection +multi +exec +xadd +xread +set +get +pexpire +unlink +scan"
        with redis_server(user="trainer", password=PASSWORD, rules=rules) as server:
            yield server

    def test_user_and_password_of_an_acl(self, server: RedisServer) -> None:
        with opened(server.url) as storage:
            for value in (b"x", LARGE):
                assert storage.put("k", [value], if_absent=True)
                assert bytes(storage.get("k")) == value
                assert list(storage.list("")) == ["k"]
                storage.delete(["k"])

    def test_password_from_the_environment(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_PASSWORD_OF_TEST", PASSWORD)
        place = server.url.rpartition("@")[2]
        with opened(f"redis://trainer:{{env:REDIS_PASSWORD_OF_TEST}}@{place}") as storage:
            assert storage.put("k", [b"x"])

    @pytest.mark.parametrize("login", ["trainer:wrong@", "nobody:wrong@", ":wrong@", ""])
    def test_a_wrong_login_is_refused_at_once(self, server: RedisServer, login: str) -> None:
        place = server.url.rpartition("@")[2]
        storage = open_storage(f"redis://{login}{place}", interrupt=lambda: pytest.fail("it was tried again"))
        with contextlib.closing(storage), pytest.raises(StorageDenied) as refused:
            storage.put("k", [b"x"])
        assert place in in_one_line(refused.value)
        assert "wrong" not in refused.value.message.replace("wrong number", "")
        (seen,) = findings(f"redis://{login}{place}")
        assert (seen.state, "password" in str(seen.remedy)) == ("problem", True)

    def test_what_an_acl_forbids_is_refused(self, server: RedisServer) -> None:
        with opened(server.url + "?prefix=others") as storage, pytest.raises(StorageDenied, match="NOPERM"):
            storage.put("k", [b"x"])

    def test_checks_say_what_they_may_not_look_at(self, server: RedisServer) -> None:
        assert {each.state for each in findings(server.url)} == {"warning"}


class TestTls:
    @pytest.fixture(scope="class")
    @classmethod
    def authority(cls) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("tls")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        for name in ("127.0.0.1", "client"):
            certificate = authority.issue_cert(name)
            certificate.private_key_pem.write_to_path(folder / f"{name}.key")
            certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, folder: Path) -> Iterator[RedisServer]:
        tls = Tls(folder / "127.0.0.1.pem", folder / "127.0.0.1.key", clients=folder / "ca.pem")
        with redis_server(tls=tls, password=PASSWORD) as server:
            yield server

    def test_values_cross_it(self, server: RedisServer, folder: Path) -> None:
        own = f"tls_cert={folder}/client.pem&tls_key={folder}/client.key"
        value = bytes(range(256)) * (MAX_VALUE_BYTES // 256)
        with opened(f"{server.url}?tls_ca={folder}/ca.pem&{own}") as storage:
            assert storage.put("k", [value[:100], value[100:]], if_absent=True)
            same = storage.get("k") == value
            assert same
            assert storage.get_many(["none"], wait_s=0.01) == {}

    def test_a_server_that_nobody_vouches_for_is_refused_at_once(self, server: RedisServer) -> None:
        storage = open_storage(server.url, interrupt=lambda: pytest.fail("it was tried again"))
        with contextlib.closing(storage), pytest.raises(StorageDenied, match="certificate") as refused:
            storage.put("k", [b"x"])
        assert "tls_ca" in in_one_line(refused.value)

    def test_a_server_that_wants_no_encryption(self) -> None:
        with redis_server() as plain, opened(f"{plain.url}?connect_timeout_s=0.3".replace("://", "s://")) as storage:
            with pytest.raises(StorageError) as refused:
                storage.get("k")
            assert "TLS" in in_one_line(refused.value)

    def test_a_file_that_is_not_there(self, server: RedisServer, tmp_path: Path) -> None:
        with opened(f"{server.url}?tls_ca={tmp_path}/none.pem") as storage, pytest.raises(StorageError) as refused:
            storage.get("k")
        assert "none.pem" in in_one_line(refused.value)


class TestDatabases:
    def test_they_are_apart(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=2") as two, opened(shared.url + "?db=3") as three:
            two.put("k", [b"2"])
            three.put("k", [b"3"])
            assert bytes(two.get("k")) == b"2"
        with control(shared, db=3) as client:
            assert client.keys() == [b"lambdaml/k"]

    def test_one_that_is_not_there(self, shared: RedisServer) -> None:
        with opened(shared.url + "?db=99") as storage, pytest.raises(StorageError, match="out of range") as refused:
            storage.put("k", [b"x"])
        in_one_line(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://",
            "redis:///1",
            "redis://host/one",
            "redis://host/1?db=2",
            "redis+unix://",
            "redis+unix://host/redis.sock",
            "redis://host?tls_ca=ca.pem",
            "rediss://host?tls_cert=client.pem",
        ],
    )
    def test_urls_that_name_no_place(self, url: str) -> None:
        with pytest.raises(URLError) as refused:
            build_storage(url)
        in_one_line(refused.value)

    @pytest.mark.parametrize("query", ["db=-1", "timeout_s=0", "expire_s=0", "prefix=../up", "nothing=1"])
    def test_options_that_cannot_be(self, query: str) -> None:
        with pytest.raises(OptionError):
            build_storage(f"redis://host?{query}")


class TestServersThatGo:
    def test_a_restarted_server_is_found_again(self) -> None:
        with redis_server() as server:
            storage = open_storage(server.url)
            with contextlib.closing(storage):
                storage.put("k", [b"x"])
                server.kill()
                server.start()
                with pytest.raises(KeyNotFound):
                    storage.get("k")
                assert storage.put("k", [b"new"], if_absent=True)

    @pytest.mark.parametrize("server_of", [redis_server, valkey_server])
    def test_who_waits_learns_that_it_has_gone(self, server_of: Any) -> None:
        with server_of(unix=True) as server, opened(server.url) as storage:
            storage.put("k", [b"x"])
            raised: list[BaseException] = []

            def wait() -> None:
                try:
                    storage.get_many(["none"], wait_s=60)
                except StorageError as e:
                    raised.append(e)

            waiter = threading.Thread(target=wait)
            waiter.start()
            with control(server) as client:
                while not client.info("clients")["blocked_clients"]:
                    pass
            server.kill()
            waiter.join(30)
            assert [type(each) for each in raised] == [StorageUnavailable]

    def test_a_silent_server_is_given_up_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with opened(f"redis://127.0.0.1:{port}?timeout_s=0.2&connect_timeout_s=0.2") as storage:
                with pytest.raises(StorageUnavailable) as refused:
                    storage.get("k")
                in_one_line(refused.value)

    def test_a_wait_may_last_longer_than_silence(self, shared: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is made of waits in the server, each with time to spare: none is taken for silence."""
        ask, blocks = RedisStorage._ask, list[int]()
        with opened(shared.url + "?db=11") as writer:
            reader = RedisStorage(StorageURL.parse(shared.url), RedisOptions(db=11, timeout_s=20))

            def answered(storage: RedisStorage, commands: Commands) -> Sequence[Reply]:
                if storage is not reader or not commands.count:
                    return ask(storage, commands)
                words = b"".join(map(bytes, commands.gathered())).split(b"\r\n")
                blocks.append(int(words[words.index(b"BLOCK") + 2]))
                if len(blocks) < 4:
                    return [None]  # what the server says once that time is over
                writer.put("k", [b"x"])
                return ask(storage, commands)

            monkeypatch.setattr(RedisStorage, "_ask", answered)
            with contextlib.closing(reader):
                found = reader.get_many(["k"], wait_s=3600)
        assert {key: bytes(value) for key, value in found.items()} == {"k": b"x"}
        assert blocks == [10_000] * 4

    def test_a_server_that_falls_silent_is_given_up_in_time(self) -> None:
        with redis_server(unix=True) as server, opened(server.url + "?timeout_s=2") as storage:
            storage.put("k", [b"x"])
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(server.url.removeprefix("redis+unix://"))
                other.sendall(b"CLIENT PAUSE 60000 ALL\r\n")
                other.recv(100)
                with pytest.raises(StorageUnavailable, match=r"silent for 2 s"):
                    storage.get("k")

    @pytest.mark.parametrize(
        "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$nonsense\r\n", b":5\r\n" * 10, b"*1\r\n:5\r\n"]
    )
    def test_what_is_no_redis_is_no_storage(self, said: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = server.accept()
                        with client, contextlib.suppress(OSError):
                            while client.recv(10_000):
                                client.sendall(said)

            threading.Thread(target=answer, daemon=True).start()
            port = server.getsockname()[1]
            with opened(f"redis://127.0.0.1:{port}?timeout_s=0.5&connect_timeout_s=0.5") as storage:
                for call in (lambda: storage.get("k"), lambda: storage.put("k", [b"x"]), lambda: [*storage.list("")]):
                    with pytest.raises(StorageError) as refused:
                        call()
                    assert not isinstance(refused.value, KeyNotFound)
                    in_one_line(refused.value)

    def test_a_request_that_is_left_takes_its_connection_with_it(self, shared: RedisServer) -> None:
        """What is still to come would be taken for the answer to the next request."""

        class Left(Exception):
            pass

        with opened(shared.url + "?db=6") as storage:
            assert isinstance(storage, RedisStorage)
            storage.put("k", [b"x"])
            (connection,) = storage._idle

            def leave(room: memoryview, whole: bool) -> int:
                raise Left

            connection._replies._receive = leave
            with pytest.raises(Left):
                storage.get("k")
            assert storage._idle == []
            assert bytes(storage.get("k")) == b"x"


class TestChecks:
    @pytest.mark.parametrize("server_of", [redis_server, valkey_server])
    def test_a_good_server(self, server_of: Any) -> None:
        with server_of(unix=True) as server:
            found = findings(server.url)
        assert [each.what for each in found] == ["server", "memory", "persistence", "clock"]
        assert {each.state for each in found} == {"ok"}, found

    def test_a_server_that_saves(self) -> None:
        with redis_server(unix=True, settings={"save": "60 1", "appendonly": "yes"}) as server:
            (persistence,) = (each for each in findings(server.url) if each.what == "persistence")
        assert persistence.state == "warning"
        assert "save 60 1" in persistence.said

    def test_a_replica_and_a_cluster(self, shared: RedisServer) -> None:
        with redis_server(settings={"replicaof": "127.0.0.1 1"}) as server:
            assert "replica" in findings(server.url)[0].said
        with redis_server(settings={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as server:
            assert "cluster" in findings(server.url)[0].said
            with opened(server.url) as storage, pytest.raises(StorageError) as refused:
                storage.put("k", [b"x"])
            assert "cluster mode" in in_one_line(refused.value)
