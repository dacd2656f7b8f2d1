"""What is said of a bucket before anything moves: where it is, what it costs, whether it is fit for use."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from lambdaml_core.findings import Finding, SupportsChecks
from lambdaml_core.options import parse
from lambdaml_core.storage import StorageURL, build_storage, storage_reference
from lambdaml_core.testing.servers import environment
from lambdaml_s3.client import object_client
from lambdaml_s3.options import S3Options
from lambdaml_s3.place import Place
from lambdaml_s3.proxy import Answer, Proxy, s3_proxy
from lambdaml_s3.testing import BUCKET, NO_CLOUD, OWNER, S3Server, acting_as, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server({"reader": ("Read", "List")}) as started:
        yield started


def place(url: str) -> Place:
    parsed = StorageURL.parse(url)
    return Place.of(parsed, parse(S3Options, parsed.query))


def keys(key: str, secret: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}


def findings(url: str) -> Mapping[str, Finding]:
    with contextlib.closing(build_storage(url)) as storage:
        assert isinstance(storage, SupportsChecks)
        return {finding.what: finding for finding in storage.checks()}


@pytest.mark.parametrize(
    ("url", "endpoint", "virtual"),
    [
        ("s3://abc?region=eu-west-1", "https://abc.s3.eu-west-1.amazonaws.com", True),
        ("s3://a.bc/p?region=eu-west-1", "https://s3.eu-west-1.amazonaws.com", False),
        ("s3://abc?region=eu-west-1&path_style=true", "https://s3.eu-west-1.amazonaws.com", False),
        ("s3://abc?region=cn-north-1", "https://abc.s3.cn-north-1.amazonaws.com.cn", True),
        ("s3://abc?endpoint_url=http://localhost:9000/", "http://localhost:9000", False),
        ("s3://abc?endpoint_url=https://host&path_style=false", "https://abc.host", True),
        (
            "s3://abc--usw2-az1--x-s3?region=us-west-2",
            "https://abc--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com",
            True,
        ),
    ],
)
def test_where_a_bucket_is(url: str, endpoint: str, virtual: bool) -> None:
    where = place(url)
    with environment("AWS_", {**NO_CLOUD, "AWS_ENDPOINT_URL": "http://elsewhere.invalid", **keys("a", "b")}):
        config = object_client(where).config
    assert config["endpoint"] == endpoint
    assert str(config["virtual_hosted_style_request"]).lower() == str(virtual).lower()


def test_regions_come_from_the_nearest_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with environment("AWS_", {**NO_CLOUD, "AWS_DEFAULT_REGION": "eu-north-1"}):
        assert place("s3://abc?region=eu-west-1").region("eu-south-1") == "eu-west-1"
        assert place("s3://abc").region("eu-south-1") == "eu-north-1"
        monkeypatch.setenv("AWS_REGION", "eu-west-3")
        assert place("s3://abc").region("eu-south-1") == "eu-west-3"
    with environment("AWS_", NO_CLOUD):
        assert place("s3://abc").region("eu-south-1") == "eu-south-1"
        assert place("s3://abc").region() == "us-east-1"


def test_caps_know_what_a_request_costs() -> None:
    """Per request, as AWS's price list has it per thousand; elsewhere nothing, unless it is said."""
    standard = build_storage("s3://abc").caps
    assert standard.usd == pytest.approx({"put": 5e-6, "get": 4e-7, "list": 5e-6, "delete": 0.0})
    assert (standard.latency_s, standard.bytes_per_s, standard.parallel) == (0.034, 57e6, 16)
    assert build_storage("s3://abc?region=eu-central-1").caps.usd["put"] == pytest.approx(5.4e-6)
    express = build_storage("s3://abc--use1-az4--x-s3").caps
    assert express.usd["put"] == pytest.approx(1.13e-6)
    assert express.usd["sent"] * 2**30 == pytest.approx(0.0032)
    assert express.latency_s < standard.latency_s
    elsewhere = build_storage("s3://abc?endpoint_url=http://127.0.0.1:1&usd_put=0.001").caps
    assert elsewhere.usd == {"put": 0.001}
    assert (elsewhere.latency_s, elsewhere.bytes_per_s) == (0.0, 0.0)
    assert build_storage("s3://abc/some/prefix").caps.max_key_bytes == 1024 - len("some/prefix/")


def test_no_job_has_credentials(server: S3Server) -> None:
    written = json.dumps(storage_reference(server.url), default=vars)
    assert "s3.options:S3Options" in written
    assert "secret-of" not in written
    assert "key-of" not in written


def test_keys_of_the_environment_need_no_boto3(server: S3Server) -> None:
    """It takes longer to import than all else that a worker does first."""
    script = (
        "import sys; from lambdaml_core.storage import build_storage; s = build_storage(sys.argv[1]);"
        "s.put('start', [b'x']); assert bytes(s.get('start')) == b'x'; s.close();"
        "print([m for m in ('boto3', 'botocore', 'click') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_keys_of_a_profile_and_of_a_process(server: S3Server, tmp_path: Path) -> None:
    """By boto3's chain, with the profile's region."""
    owner = {"AccessKeyId": f"key-of-{OWNER}", "SecretAccessKey": f"secret-of-{OWNER}", "Version": 1}
    answer = tmp_path / "keys.json"
    answer.write_text(json.dumps(owner))
    config = tmp_path / "config"
    config.write_text(
        f"[profile written]\naws_access_key_id = {owner['AccessKeyId']}\n"
        f"aws_secret_access_key = {owner['SecretAccessKey']}\nregion = eu-west-2\n"
        f"[profile asked]\ncredential_process = cat {answer}\n"
    )
    with environment("AWS_", {**NO_CLOUD, "AWS_CONFIG_FILE": str(config)}):
        for profile in ("written", "asked"):
            url = f"s3://{BUCKET}/{profile}?endpoint_url={server.endpoint}&profile={profile}"
            with contextlib.closing(build_storage(url)) as storage:
                storage.put("k", [b"x"])
                assert bytes(storage.get("k")) == b"x"
            region = object_client(place(url)).config["region"]
            assert region == ("eu-west-2" if profile == "written" else "us-east-1")


def test_a_bucket_that_is_fit(server: S3Server) -> None:
    found = findings(server.url)
    assert found["credentials"].state == found["bucket"].state == found["signatures"].state == "ok"
    assert found["lifecycle"].state == "warning"
    rule = {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""}}
    with contextlib.closing(server.client()) as client:
        client.put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={
                "Rules": [{**rule, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}]  # type: ignore[list-item]
            },
        )
        assert findings(server.url)["lifecycle"].state == "ok"
        client.put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={"Rules": [{**rule, "ID": "old", "Expiration": {"Days": 1}}]},  # type: ignore[list-item]
        )
        assert "old" in findings(server.url)["lifecycle"].said
        client.delete_bucket_lifecycle(Bucket=BUCKET)


def test_a_missing_bucket_is_made(server: S3Server) -> None:
    url = server.url_of("made-by-doctor/prefix")
    missing = findings(url)["bucket"]
    assert (missing.state, missing.fix is not None) == ("problem", True)
    assert missing.fix is not None
    missing.fix()
    missing.fix()
    assert findings(url)["bucket"].state == "ok"
    with contextlib.closing(build_storage(url)) as storage:
        assert storage.put("k", [b"x"]) is True


def test_credentials_that_are_refused_are_found(server: S3Server) -> None:
    with environment("AWS_", NO_CLOUD | keys("key-of-nobody", "secret-of-nobody")):
        found = findings(server.url)
    assert found["credentials"].state == "ok"
    assert found["bucket"].state == "problem"
    assert "s3:ListBucket" in (found["bucket"].remedy or "")
    with environment("AWS_", {**NO_CLOUD, "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere"}):
        assert findings(server.url)["credentials"].state == "problem"


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with s3_proxy(server.endpoint) as started:
        yield started


def test_a_bucket_of_another_region_is_found(server: S3Server, proxy: Proxy) -> None:
    proxy.headers = {"x-amz-bucket-region": "eu-west-1"}
    found = findings(server.url_of(BUCKET, proxy.endpoint))["bucket"]
    assert found.state == "problem"
    assert "region=eu-west-1" in (found.remedy or "")


@pytest.mark.parametrize(("off_s", "state"), [(5, "ok"), (300, "warning"), (1000, "problem"), (-1000, "problem")])
def test_a_clock_that_is_off_is_found(server: S3Server, proxy: Proxy, off_s: int, state: str) -> None:
    theirs = datetime.now(UTC) + timedelta(seconds=off_s)
    proxy.headers = {"Date": format_datetime(theirs, usegmt=True)}
    assert findings(server.url_of(BUCKET, proxy.endpoint))["signatures"].state == state


def test_what_may_not_be_looked_at_is_told(server: S3Server, proxy: Proxy) -> None:
    proxy.refuse = lambda kind, path: Answer(403, "AccessDenied") if "lifecycle" in path else None
    found = findings(server.url_of(BUCKET, proxy.endpoint))["lifecycle"]
    assert found.state == "warning"
    assert "s3:GetLifecycleConfiguration" in (found.remedy or "")


def test_the_environment_is_as_it_was() -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with acting_as(OWNER):
        assert os.environ["AWS_ACCESS_KEY_ID"] == f"key-of-{OWNER}"
    assert {name: value for name, value in os.environ.items() if name.startswith("AWS_")} == before
