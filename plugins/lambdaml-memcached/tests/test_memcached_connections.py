"""Servers that go, come back, hang, ask for a password, or encrypt."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from memcached_help import bare, figure, opened

from lambdaml_core.errors import KeyNotFound, StorageDenied, StorageError, StorageUnavailable, URLError
from lambdaml_core.storage import open_storage
from lambdaml_memcached.testing import memcached_server


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """What listens, and never answers of its own accord."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def url_of(listener: socket.socket, timeout_s: float) -> str:
    return f"memcached://127.0.0.1:{listener.getsockname()[1]}?timeout_s={timeout_s}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memcached://", "must name one server"),
        ("memcached://a,b:11211", "must name one server"),
        ("memcached://a:1,b:2", "cannot be read"),
        ("memcached://a:11211/path", "nothing in it"),
        ("memcached://me@a:11211", "only one of user and password"),
        ("memcached://a?tls_ca=authority.pem", "no encryption"),
        ("memcached+unix://a/path", "no server"),
        ("memcached+unix://", "path of a socket"),
        ("memcached+unix:///path?tls=true", "tls"),
    ],
)
def test_urls_that_mean_something_else_are_refused(url: str, said: str) -> None:
    with pytest.raises(URLError, match=said):
        open_storage(url)


def test_who_sees_a_value_is_told_by_the_host() -> None:
    """What only this machine reaches is no channel for others, and needs no checksums."""
    for url, scope in (
        ("memcached://127.0.0.1:1", "host"),
        ("memcached://localhost", "host"),
        ("memcached://[::1]", "host"),
    ):
        caps = open_storage(url).caps
        assert (caps.scope, caps.checksums) == (scope, False)
    caps = open_storage("memcached://cache.example.com").caps
    assert (caps.scope, caps.checksums, caps.durable) == ("network", True, False)


@pytest.mark.parametrize("unix", [False, True], ids=["port", "socket"])
def test_a_server_that_is_killed_and_comes_back(unix: bool) -> None:
    """Its values are gone, and the same client goes on."""
    with memcached_server(unix=unix) as server, opened(server.url) as storage:
        storage.put("k", [b"x"])
        server.kill()
        for call in (lambda: storage.get("k"), lambda: storage.put("k", [b"x"]), lambda: storage.delete(["k"])):
            with pytest.raises(StorageUnavailable, match=re.escape(server.url)) as gone:
                call()
            assert gone.value.hint
        server.start()
        with pytest.raises(KeyNotFound):
            storage.get("k")
        assert storage.put("k", [b"y"], if_absent=True) is True


def test_a_restart_is_waited_for() -> None:
    """The layers of a run try again until the server is back."""
    with memcached_server() as server, ThreadPoolExecutor(1) as pool:
        storage = open_storage(server.url)
        storage.put("k", [b"x"])
        server.kill()
        putting = pool.submit(storage.put, "k", [b"y"])
        server.start()
        assert putting.result(60) is True
        assert bytes(storage.get("k")) == b"y"
        storage.close()


def test_a_server_that_hangs_is_given_up(silent: socket.socket) -> None:
    with opened(url_of(silent, 0.2)) as storage:
        with pytest.raises(StorageUnavailable, match=r"no answer for 0\.2 s"):
            storage.get("k")
        with pytest.raises(StorageUnavailable, match=r"no answer for 0\.2 s"):
            storage.put("k", [bytes(900_000)])


def test_an_answer_that_comes_too_late_is_nobodys(silent: socket.socket) -> None:
    """After an error a connection is not used again, since the next reader would get the last one's value."""
    with bare(url_of(silent, 0.2)) as storage, ThreadPoolExecutor(1) as pool:
        with pytest.raises(StorageUnavailable):
            storage.get("first")
        storage._options = dataclasses.replace(storage._options, timeout_s=60.0)  # no other is late
        late, _ = silent.accept()
        getting = pool.submit(storage.get, "second")
        again, _ = silent.accept()
        with late, again:
            late.sendall(b"VALUE first 0 5\r\nfirst\r\nEND\r\n")
            assert late.recv(100) == b"get first\r\n"
            again.sendall(b"VALUE second 0 6\r\nsecond\r\nEND\r\n")
            assert bytes(getting.result(60)) == b"second"


@pytest.mark.parametrize("answer", [b"ERROR\r\n", b"SERVER_ERROR busy\r\n", b"VALUE k 0 many\r\n", b"x" * 20_000])
def test_what_is_no_answer_is_an_error(silent: socket.socket, answer: bytes) -> None:
    with opened(url_of(silent, 60)) as storage, ThreadPoolExecutor(1) as pool:
        getting = pool.submit(storage.get, "k")
        server, _ = silent.accept()
        with server:
            server.sendall(answer)
            with pytest.raises(StorageError, match="memcached://") as refused:
                getting.result(60)
            assert refused.value.code == "storage"


def test_a_server_with_too_many_clients_says_so() -> None:
    """It hangs up on those who come then; a run tries again."""
    with memcached_server("-c", "30") as server, contextlib.ExitStack() as stack, opened(server.url) as one:
        one.put("k", [b"x"])
        refused = 0
        for _ in range(30):  # each is answered, or hung up on, before the next comes: only then it counts
            client = stack.enter_context(server.connect())
            client.sendall(b"version\r\n")
            refused += not client.recv(100).startswith(b"VERSION")
        assert 0 < refused < 30
        with opened(server.url) as two, pytest.raises(StorageUnavailable):
            two.get("k")
        assert bytes(one.get("k")) == b"x"


# --- passwords and encryption


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that is open to the user as whom a server runs which root has started."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_server_that_asks_for_a_password(public: Path) -> None:
    users = public / "users"
    users.write_text("me:right-one\n")
    with memcached_server("-Y", str(users)) as server:
        with opened(server.url.replace("://", "://me:right-one@")) as storage:
            assert storage.put("k", [b"x"]) is True
            assert bytes(storage.get("k")) == b"x"
        for login in ("", "me:wrong-one@", "you:right-one@"):
            with opened(server.url.replace("://", f"://{login}")) as storage:
                with pytest.raises(StorageDenied, match="authenticat") as refused:
                    storage.get("k")
                assert "password" in str(refused.value.hint)
                with pytest.raises(StorageDenied):
                    storage.put("k", [b"x"])


def test_a_password_that_nobody_asks_for_is_not_handed_over() -> None:
    """A server without users would store it as a value."""
    with memcached_server() as server, opened(server.url.replace("://", "://me:secret@")) as storage:
        with pytest.raises(StorageDenied, match="asks for no user"):
            storage.put("k", [b"x"])
        assert figure(server, "total_items") == 0


def test_encryption(public: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(public / "server.pem")
    authority.cert_pem.write_to_path(public / "ca.pem")
    pem = public / "server.pem"
    with memcached_server("-Z", "-o", f"ssl_chain_cert={pem},ssl_key={pem}") as server:
        with opened(f"{server.url}?tls=true&tls_ca={public}/ca.pem") as storage:
            large = bytes(range(256)) * 4000
            assert sorted(storage.put_many({"small": [b"a", b"b"], "large": [b"head", large]})) == ["large", "small"]
            found = storage.get_many(["small", "large", "none"])
            assert bytes(found["small"]) == b"ab"
            assert bytes(found["large"]) == b"head" + large
        with opened(f"{server.url}?tls=true") as storage, pytest.raises(StorageDenied) as refused:
            storage.get("small")
        assert "tls_ca" in str(refused.value.hint)
        (public / "empty.pem").touch()
        (public / "text.pem").write_text("no certificate\n")
        for name in ("none.pem", "empty.pem", "text.pem"):
            with opened(f"{server.url}?tls=true&tls_ca={public}/{name}") as storage, pytest.raises(StorageDenied):
                storage.get("small")


def test_a_server_that_does_not_encrypt() -> None:
    with memcached_server() as server, opened(f"{server.url}?tls=true") as storage:
        for call in (lambda: storage.get("k"), lambda: storage.delete(["k"])):
            with pytest.raises(StorageUnavailable) as refused:
                call()
            assert "TLS" in str(refused.value.hint)
