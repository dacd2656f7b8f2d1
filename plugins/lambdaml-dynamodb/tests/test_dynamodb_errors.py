"""What goes wrong is one clear line, of the right kind, and shows no secret."""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dynamodb_help import Proxy, become, opened, proxy

from lambdaml_core.errors import (
    LambdaMLError,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    URLError,
    ValueTooLarge,
)
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.layers import Complete
from lambdaml_core.testing.servers import free_port
from lambdaml_dynamodb.layout import MAX_VALUE_BYTES
from lambdaml_dynamodb.testing import TABLE, DynamoDBServer, dynamodb_server

SECRET, TOKEN = "wJalrXUtnFEMI-secret", "FwoGZXIvYXdzEBYaD-session-token"


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoDBServer]:
    with dynamodb_server() as started:
        yield started


@pytest.fixture
def between(server: DynamoDBServer) -> Iterator[Proxy]:
    with proxy(server) as ours:
        yield ours


def calls(storage: Complete) -> list[Callable[[], object]]:
    """One of each kind of request."""
    return [
        lambda: storage.put("k", [b"x"]),
        lambda: storage.put("k", [b"x"], if_absent=True),
        lambda: storage.put_many({"k": [b"x"], "l": [b"x"]}),
        lambda: storage.get("k"),
        lambda: storage.get_many(["k", "l"]),
        lambda: storage.delete(["k"]),
        lambda: list(storage.list("")),
    ]


def refused(call: Callable[[], object], kind: type[LambdaMLError]) -> LambdaMLError:
    """The error of a call that must fail in this very way: one line, a hint, no secret, even in a traceback."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + str(error.hint)
    assert SECRET not in shown
    assert TOKEN not in shown
    assert "\n" not in error.message
    assert len(error.message) < 500
    assert error.hint
    return error


PASSING = [
    (400, "ProvisionedThroughputExceededException"),
    (400, "ThrottlingException"),
    (400, "RequestLimitExceeded"),
    (500, "InternalServerError"),
    (503, "ServiceUnavailable"),
]
DENIED = [
    (400, "AccessDeniedException"),
    (400, "UnrecognizedClientException"),
    (400, "ExpiredTokenException"),
    (400, "MissingAuthenticationTokenException"),
]


@pytest.mark.parametrize(("status", "code"), PASSING)
def test_what_passes_is_said_to_pass(between: Proxy, status: int, code: str) -> None:
    between.fail(status, code, "more than\nthis table takes")
    with opened(between.url(TABLE)) as storage:
        for call in calls(storage):
            before = len(between.seen)
            error = refused(call, StorageUnavailable)
            assert TABLE in error.message
            assert code in error.message
            assert len(between.seen) - before <= 16, "trying again is the Retry layer's, which knows the deadline"


@pytest.mark.parametrize(("status", "code"), DENIED)
def test_what_is_denied_is_said_to_be(between: Proxy, status: int, code: str) -> None:
    between.fail(status, code, "the reason")
    with opened(between.url(TABLE)) as storage:
        for call in calls(storage):
            error = refused(call, StorageDenied)
            assert "the reason" in error.message


def test_a_throttled_request_is_made_again_by_the_layers(between: Proxy) -> None:
    failures = iter(PASSING)

    def fail_first(*_: object) -> tuple[int, dict[str, str]] | None:
        status, code = next(failures, (0, ""))
        return (status, {"__type": code, "message": "later"}) if code else None

    storage = open_storage(between.url(f"{TABLE}/throttled"))
    between.intercept = fail_first
    assert storage.put("k", [b"x"], if_absent=True) is True
    assert bytes(storage.get("k")) == b"x"
    storage.close()


@pytest.mark.parametrize("garbage", [b"<html>502 Bad Gateway</html>", b"{", b"[]", b'"', b""])
@pytest.mark.parametrize("status", [200, 502])
def test_an_answer_that_is_none(between: Proxy, garbage: bytes, status: int) -> None:
    """Of a proxy, of a login page, of a server that goes down."""
    between.intercept = lambda *_: (status, garbage)
    with opened(between.url(TABLE)) as storage:
        for call in calls(storage):
            refused(call, StorageError)


def test_a_server_that_does_not_answer(between: Proxy) -> None:
    """One try lasts ``timeout_s``, and no longer."""
    with opened(between.url(TABLE, timeout_s=0.1)) as storage:
        gate = threading.Event()

        def hang(*_: object) -> None:
            gate.wait(60)

        between.intercept = hang
        try:
            refused(lambda: storage.get("k"), StorageUnavailable)
        finally:
            gate.set()


def test_a_network_that_is_gone_and_comes_back(server: DynamoDBServer) -> None:
    with proxy(server) as between, opened(between.url(f"{TABLE}/gone")) as storage:
        storage.put("k", [b"x"])
        between.intercept = lambda *_: (200, b"")  # every connection ends without an answer
        for call in calls(storage):
            refused(call, StorageUnavailable)
        between.intercept = lambda *_: None
        assert bytes(storage.get("k")) == b"x"


@pytest.mark.usefixtures("server")  # its credentials
def test_a_port_where_nobody_listens() -> None:
    with opened(f"dynamodb://{TABLE}?region=us-east-1&endpoint_url=http://127.0.0.1:{free_port()}") as storage:
        for call in calls(storage):
            assert "Could not connect" in refused(call, StorageUnavailable).message


def test_a_table_that_is_missing(server: DynamoDBServer) -> None:
    with opened(server.url_of("no-such-table")) as storage:
        for call in calls(storage):
            error = refused(call, StorageError)
            assert "there is no table no-such-table" in error.message
            assert "doctor --fix" in str(error.hint)


def test_values_that_are_too_large_are_not_sent(between: Proxy) -> None:
    large = [bytes(MAX_VALUE_BYTES), b"!"]
    with opened(between.url(TABLE)) as storage:
        for call in (
            lambda: storage.put("k", large),
            lambda: storage.put("k", large, if_absent=True),
            lambda: storage.put_many({"small": [b""], "k": large}),
        ):
            with pytest.raises(ValueTooLarge, match=f"k: {MAX_VALUE_BYTES + 1} bytes"):
                call()
    assert between.seen == []


# --- credentials ----------------------------------------------------------------------------------------------------


def policy() -> dict[str, Any]:
    """The first of README.md, for the tests' table."""
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    found = re.search(r"```json\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    text = found[1].replace("table/lambdaml", f"table/{TABLE}").replace("123456789012", "000000000000")
    result: dict[str, Any] = json.loads(text)
    return result


def test_the_policy_of_the_readme_suffices(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, server, "worker", policy())
    with opened(server.url_of(f"{TABLE}/policy")) as storage:
        storage.put("k", [b"x"])
        for call in calls(storage):
            call()
            storage.put("k", [b"x"])
    with opened(server.url_of("another-table")) as storage:
        for call in calls(storage):
            refused(call, StorageDenied)


def test_who_has_no_rights_is_denied(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, server, "nobody", None)
    with opened(server.url_of(TABLE)) as storage:
        for call in calls(storage):
            error = refused(call, StorageDenied)
            assert "not authorized" in error.message
            assert "IAM policy" in str(error.hint)


def test_who_has_another_secret_is_denied(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, server, "forger", policy())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with opened(server.url_of(TABLE)) as storage:
        for call in calls(storage):
            assert "signature" in refused(call, StorageDenied).message


def test_a_key_that_nobody_knows_is_denied(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    with opened(server.url_of(TABLE)) as storage:
        for call in calls(storage):
            refused(call, StorageDenied)


def test_what_is_said_of_a_signature_shows_no_token(between: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS shows the whole request that it would have signed."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    said = (
        f"The signature does not match.\n\nThe Canonical String should have been\n'POST\nx-amz-security-token:{TOKEN}'"
    )
    between.fail(400, "InvalidSignatureException", said)
    with opened(between.url(TABLE)) as storage:
        for call in calls(storage):
            refused(call, StorageDenied)


def test_who_has_no_credentials_is_told_so(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    with opened(server.url_of(TABLE)) as storage:
        for call in calls(storage):
            assert "no AWS credentials" in refused(call, StorageDenied).message


def test_a_profile_has_credentials(server: DynamoDBServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = f"aws_access_key_id = test\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "credentials").write_text(f"[research]\n{keys}[broken]\naws_access_key_id = test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with opened(f"{server.url_of(TABLE)}&profile=research") as storage:
        assert storage.put("profile/k", [b"x"]) is True
    for profile, said in (("absent", "absent"), ("broken", "no AWS credentials")):
        with opened(f"{server.url_of(TABLE)}&profile={profile}") as storage:
            assert said in refused(lambda: storage.get("k"), StorageDenied).message


def test_a_table_in_no_region(server: DynamoDBServer) -> None:
    with opened(f"dynamodb://{TABLE}?endpoint_url={server.endpoint}") as storage:
        assert "region" in str(refused(lambda: storage.get("k"), StorageError).hint)


@pytest.mark.parametrize(
    "url",
    [
        f"dynamodb://key:{SECRET}@{TABLE}",
        f"dynamodb://key@{TABLE}",
        f"dynamodb://{TABLE}:8000",
        f"dynamodb://{TABLE}?endpoint_url=http://key:{SECRET}@127.0.0.1:1",
        f"dynamodb://{TABLE}?endpoint_url=127.0.0.1:8000",
        "dynamodb:///prefix",
        "dynamodb://no",
        "dynamodb://no%20table",
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    refused(lambda: open_storage(url), URLError)


@pytest.mark.parametrize("prefix", ["a/../b", "a b", "p" * 513])
def test_prefixes_that_cannot_be(prefix: str) -> None:
    with pytest.raises(StorageError):
        open_storage(f"dynamodb://{TABLE}/{prefix}")
