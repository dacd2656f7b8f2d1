"""Runs that are kept in S3, and whose messages go over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_laws import RunsOverAServerThatComesBack
from servers_help import lambdaml, model_of_files, one_line, refused, train, write_job

from lambdaml_core.errors import StorageDenied, StorageError, StorageUnavailable
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.testing.servers import free_port
from lambdaml_s3.testing import BUCKET, S3Server, acting_as, s3_server

READER = "reader"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server({READER: ["Read", "List"]}) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: S3Server) -> str:
    return server.url


@pytest.fixture(scope="module")
def left(server: S3Server) -> Callable[[], int]:
    def count() -> int:
        pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return sum(page["KeyCount"] for page in pages)

    return count


class TestS3(RunsOverAServerThatComesBack):
    store = True


def test_rows_are_partitioned_into_it_and_trained_on_from_there(
    server: S3Server, left: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write_job(tmp_path, server.url, None)
    places = [server.url_of(f"{BUCKET}/rows"), (tmp_path / "rows").as_uri()]
    models = []
    for place in places:
        lambdaml(capsys, "partition", str(tmp_path / "rows.libsvm"), "--out", place, "--shards", "3")
        models.append(lambdaml(capsys, "train", str(job), "--set", f"data.source={place}")["model_sha256"])
    assert models[0] == models[1]
    assert len(clean(server.url)) == 2
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="rows/"):
        client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": each["Key"]} for each in page["Contents"]]})
    assert left() == 0


def test_nobody_there(tmp_path: Path) -> None:
    url = f"s3://{BUCKET}?endpoint_url=http://127.0.0.1:{free_port()}&region=us-east-1"
    with pytest.raises(StorageUnavailable, match="the channel s3://") as gone:
        train(tmp_path.as_uri(), url)
    assert BUCKET in one_line(gone.value)


def test_a_wrong_bucket(server: S3Server) -> None:
    url = server.url_of("nobodys-bucket")
    with pytest.raises(StorageError, match="the store s3://nobodys-bucket") as wrong:
        train(url, None)
    assert "bucket" in one_line(wrong.value)


def test_who_may_only_read(server: S3Server, left: Callable[[], int]) -> None:
    with acting_as(READER), pytest.raises(StorageDenied, match="the store s3://") as denied:
        train(server.url, None)
    one_line(denied.value, f"secret-of-{READER}")
    assert left() == 0


def test_wrong_credentials(server: S3Server, tmp_path: Path) -> None:
    write_job(tmp_path, server.url, None)
    with acting_as("stranger"):
        said = refused(tmp_path, "train", "job.toml", secret="secret-of-stranger")  # noqa: S106  (nobody's)
    assert "the store s3://" in said


def test_it_is_a_store_whose_messages_go_elsewhere(server: S3Server, left: Callable[[], int]) -> None:
    """The default: local workers meet in memory of this machine."""
    record = train(server.url, None, provider="local", workers=2)
    assert record["model_sha256"] == model_of_files(provider="local", workers=2)
    assert not record["channel"].startswith("s3:")
    clean(server.url)
    assert left() == 0
