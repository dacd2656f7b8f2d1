"""What goes wrong with S3 is one clear line with a remedy, and shows no secret."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError

from lambdaml_core.errors import (
    KeyNotFound,
    LambdaMLError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    URLError,
    ValueTooLarge,
)
from lambdaml_core.storage import StorageURL, build_storage, open_storage
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.layers import Complete
from lambdaml_core.storage.retry import Retry
from lambdaml_core.testing.servers import environment, free_port
from lambdaml_s3.client import object_client
from lambdaml_s3.failures import failure
from lambdaml_s3.options import S3Options
from lambdaml_s3.place import Place
from lambdaml_s3.proxy import Answer, Proxy, s3_proxy
from lambdaml_s3.testing import BUCKET, NO_CLOUD, OWNER, REGION, S3Server, acting_as, s3_server

CALLS: dict[str, Callable[[Storage], object]] = {
    "put": lambda s: s.put("k", [b"x"]),
    "create": lambda s: s.put("k", [b"x"], if_absent=True),
    "put in parts": lambda s: s.put("k", [bytes(9 << 20)]),
    "get": lambda s: s.get("k"),
    "delete": lambda s: s.delete(["k"]),
    "list": lambda s: list(Complete(s).list("")),
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server({"reader": ("Read", "List"), "anonymous": ("Read", "List")}) as started:
        yield started


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with s3_proxy(server.endpoint) as started:
        yield started


@pytest.fixture
def behind(server: S3Server, proxy: Proxy) -> Storage:
    return build_storage(server.url_of(f"{BUCKET}/behind", proxy.endpoint))


def refusals(storage: Storage, calls: dict[str, Callable[[Storage], object]] = CALLS) -> Iterator[StorageError]:
    """The errors of all calls, none of which may succeed or show a secret."""
    for name, call in calls.items():
        with pytest.raises(StorageError) as refused:
            call(storage)
        error = refused.value
        said = "".join(traceback.format_exception(error))
        assert "secret-of" not in said, name
        assert "key-of" not in said, name
        assert "\n" not in error.message, name
        assert not isinstance(error, KeyNotFound), name
        yield error
    storage.close()


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [
        ("key-of-nobody", "secret-of-owner", "InvalidAccessKeyId"),
        ("key-of-owner", "secret-of-else", "SignatureDoesNotMatch"),
    ],
)
def test_wrong_keys_are_denied(server: S3Server, key: str, secret: str, code: str) -> None:
    with environment("AWS_", {**NO_CLOUD, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}):
        for error in refusals(build_storage(server.url)):
            assert isinstance(error, StorageDenied)
            assert code in error.message
            assert "credentials" in (error.hint or "")


def test_missing_bucket_is_told_with_how_to_make_it(server: S3Server) -> None:
    for error in refusals(build_storage(server.url_of("no-such-bucket/prefix"))):
        assert isinstance(error, StorageDenied)
        assert "s3://no-such-bucket/prefix: there is no such bucket" in error.message
        assert "lambdaml doctor --fix" in (error.hint or "")


def test_missing_permission_is_told(server: S3Server) -> None:
    build_storage(server.url).put("there", [b"x"])
    with acting_as("reader"):
        reader = build_storage(server.url)
        assert bytes(reader.get("there")) == b"x"
        assert "there" in list(Complete(reader).list(""))
        writing = {name: call for name, call in CALLS.items() if name not in ("get", "list")}
        for error in refusals(reader, writing):
            assert isinstance(error, StorageDenied)
            assert "AccessDenied" in error.message
            assert "s3:PutObject" in (error.hint or "")
    assert bytes(build_storage(server.url).get("there")) == b"x"


def test_everybody_may_read_what_is_open(server: S3Server) -> None:
    build_storage(server.url).put("open", [b"x"])
    with environment("AWS_", NO_CLOUD):
        reader = build_storage(f"{server.url}&anonymous=true")
        assert bytes(reader.get("open")) == b"x"
        with pytest.raises(StorageDenied):
            reader.put("open", [b"y"])
        reader.close()


def test_credentials_that_cannot_be_renewed_are_told(server: S3Server, tmp_path: Path) -> None:
    """boto3 renews what ends; where it cannot, requests are denied, and not taken for a failure in passing."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    keys = {"AccessKeyId": f"key-of-{OWNER}", "SecretAccessKey": f"secret-of-{OWNER}", "Version": 1}
    (tmp_path / "keys").write_text(json.dumps({**keys, "Expiration": soon.isoformat()}))
    (tmp_path / "config").write_text(f"[profile asked]\ncredential_process = cat {tmp_path}/keys\n")
    with environment("AWS_", {**NO_CLOUD, "AWS_CONFIG_FILE": str(tmp_path / "config")}):
        place = Place.of(StorageURL.parse(server.url), S3Options(profile="asked", endpoint_url=server.endpoint))
        client = object_client(place)
        (tmp_path / "keys").unlink()
        with pytest.raises(BaseError) as refused:
            obstore.get(client, "any")
    error = failure(place, refused.value)
    assert isinstance(error, StorageDenied)
    assert "cannot be renewed" in error.message
    assert "secret-of" not in error.message


@pytest.mark.parametrize("keys", [{}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}], ids=["none", "empty"])
def test_no_credentials_are_told(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with environment("AWS_", NO_CLOUD | keys):
        for error in refusals(build_storage(server.url)):
            assert isinstance(error, StorageDenied)
            assert "no AWS credentials" in error.message
        missing = build_storage(f"{server.url}&profile=nobody-has-this")
        for error in refusals(missing):
            assert isinstance(error, StorageDenied)
            assert "nobody-has-this" in error.message


def test_nobody_there_is_told() -> None:
    with acting_as(OWNER):
        for error in refusals(
            build_storage(f"s3://{BUCKET}?region={REGION}&endpoint_url=http://127.0.0.1:{free_port()}")
        ):
            assert isinstance(error, StorageUnavailable)
            assert "nobody listens there" in error.message
        unknown = build_storage(f"s3://{BUCKET}?region={REGION}&endpoint_url=http://no-such-host.invalid")
        with pytest.raises(StorageUnavailable, match="its name is not known"):
            unknown.get("k")


def test_silence_is_told_in_time(server: S3Server) -> None:
    with s3_proxy(server.endpoint) as proxy:
        proxy.latency_s = 30.0
        storage = build_storage(server.url_of(BUCKET, proxy.endpoint) + "&timeout_s=0.2")
        with pytest.raises(StorageUnavailable, match="no answer in time"):
            storage.get("k")
        storage.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(503, "SlowDown"), StorageUnavailable),
        (Answer(500, "InternalError"), StorageUnavailable),
        (Answer(503, "ServiceUnavailable"), StorageUnavailable),
        (Answer(502, ""), StorageUnavailable),
        (Answer(429, "TooManyRequests"), StorageUnavailable),
        (Answer(400, "RequestTimeout"), StorageUnavailable),
        (Answer(400, "ExpiredToken"), StorageDenied),
        (Answer(403, "RequestTimeTooSkewed"), StorageDenied),
        (Answer(400, "EntityTooLarge"), ValueTooLarge),
        (Answer(507, "InsufficientStorage"), StorageFull),
        (Answer(400, "InvalidArgument"), StorageError),
        ("drop", StorageUnavailable),
    ],
    ids=str,
)
def test_answers_become_errors(behind: Storage, proxy: Proxy, answer: Answer | str, kind: type[StorageError]) -> None:
    proxy.refuse = lambda *_: answer
    for error in refusals(behind):
        assert type(error) is kind


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
        Answer(301, "PermanentRedirect", "use the endpoint", "<Region>eu-west-1</Region>"),
    ],
    ids=["malformed", "redirect"],
)
def test_another_region_is_told(behind: Storage, proxy: Proxy, answer: Answer) -> None:
    proxy.refuse = lambda *_: answer
    for error in refusals(behind):
        assert isinstance(error, StorageDenied)
        assert "?region=" in (error.hint or "")
        assert "eu-west-1" in (error.hint or "") or answer.status == 301


def test_what_fails_in_passing_is_tried_again(behind: Storage, proxy: Proxy) -> None:
    """Each request is refused twice, or carried out and its answer lost, and then served."""
    seen: dict[tuple[str, str], int] = {}

    def twice(kind: str, path: str) -> Answer | str | None:
        seen[kind, path] = seen.get((kind, path), 0) + 1
        answers: dict[int, Answer | str] = {1: Answer(503, "SlowDown"), 2: "drop"}
        return answers.get(seen[kind, path])

    def lost_once(kind: str, path: str) -> str | None:
        return "drop" if seen[kind, path] == 3 else None

    proxy.refuse, proxy.after = twice, lost_once
    storage = Retry(Complete(behind))
    assert storage.put("once", [b"mine"], if_absent=True) is True, "the create whose answer was lost was this one"
    assert storage.put("many", [b"value"]) is True
    assert bytes(storage.get("once")) == b"mine"
    assert list(storage.list("")) == ["many", "once"]
    storage.delete(["once", "many"])
    assert list(storage.list("")) == []


def test_a_create_in_conflict_is_made_again(behind: Storage, proxy: Proxy) -> None:
    """AWS answers 409 to who creates while another request on the key is under way: neither yes nor no."""
    conflicts = iter([Answer(409, "ConditionalRequestConflict")] * 2)
    proxy.refuse = lambda kind, _: next(conflicts, None) if kind == "PUT" else None
    assert behind.put("conflict", [b"x"], if_absent=True) is True
    proxy.refuse = lambda kind, _: Answer(409, "ConditionalRequestConflict") if kind == "PUT" else None
    with pytest.raises(StorageUnavailable):
        behind.put("another", [b"x"], if_absent=True)


@pytest.mark.parametrize("key", ["a-credential-provider", "LOCATION", "kind/timeout"])
def test_no_name_of_a_key_passes_for_a_reason(key: str) -> None:
    with acting_as(OWNER):
        storage = build_storage(f"s3://{BUCKET}?region={REGION}&endpoint_url=http://127.0.0.1:{free_port()}")
        with pytest.raises(StorageUnavailable, match="nobody listens there"):
            storage.get(key)


def test_a_create_that_is_too_large_is_refused(behind: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_s3.storage._MOST_AT_ONCE", 100)
    with pytest.raises(ValueTooLarge):
        behind.put("large", [bytes(101)], if_absent=True)
    with pytest.raises(KeyNotFound):
        behind.get("large")


@pytest.mark.parametrize(
    "url",
    [
        "s3://key-of-me:secret-of-me@bucket/prefix",
        "s3://key-of-me@bucket",
        "s3://bucket:9000/prefix",
        "s3:///prefix",
        "s3://UPPER",
        "s3://bucket?endpoint_url=127.0.0.1:9000",
        "s3://bucket?endpoint_url=http://key-of-me:secret-of-me@127.0.0.1:9000",
        "s3://bucket/a//b",
        "s3://bucket/../b",
    ],
)
def test_urls_that_cannot_be_are_refused(url: str) -> None:
    with pytest.raises(LambdaMLError) as refused:
        build_storage(url)
    assert isinstance(refused.value, URLError | StorageError)
    assert "secret-of-me" not in "".join(traceback.format_exception(refused.value))


def test_the_server_may_be_killed_and_come_back(server: S3Server) -> None:
    """What is durable is there again, and requests made meanwhile are made again until then."""
    storage = open_storage(server.url_of(f"{BUCKET}/killed"))
    storage.put("before", [b"kept"])
    server.kill()
    with pytest.raises(StorageUnavailable):
        build_storage(server.url).get("before")
    server.start()
    assert bytes(storage.get("before")) == b"kept"
    assert storage.put("after", [b"new"], if_absent=True) is True
    storage.close()
