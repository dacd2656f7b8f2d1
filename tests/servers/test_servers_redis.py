"""Runs whose messages go over Redis and Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from run_laws import RunsOverAServerThatComesBack
from servers_help import LONG, SOON, harmed, late, model_of_files, one_line, refused, train, write_job

from lambdaml_core.errors import StorageDenied, StorageFull, WorkerFailed
from lambdaml_core.run.bench import bench_collectives
from lambdaml_core.run.driver.resume import resume_run
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.testing.servers import free_port
from lambdaml_redis.testing import RedisServer, redis_server, valkey_server

SECRET = "open/sesame"  # noqa: S105  (nobody's)
KINDS = {"redis": redis_server, "valkey": valkey_server}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with KINDS[request.param]() as server:
        yield server


@pytest.fixture(scope="module")
def url(server: RedisServer) -> str:
    return server.url


@pytest.fixture(scope="module")
def left(url: str) -> Callable[[], int]:
    def dbsize() -> int:
        with redis.Redis.from_url(url) as client:
            size: int = client.dbsize()
            return size

    return dbsize


class TestRedis(RunsOverAServerThatComesBack):
    """A channel."""


def test_nobody_there(tmp_path: Path) -> None:
    url = f"redis://:{{env:PASSWORD}}@127.0.0.1:{free_port()}"
    write_job(tmp_path, (tmp_path / "store").as_uri(), url)
    said = refused(tmp_path, "train", "job.toml", secret=SECRET, PASSWORD=SECRET)
    assert "the channel redis://" in said
    assert list_runs((tmp_path / "store").as_uri()) == []


def test_a_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    with redis_server(user="worker", password="right") as server:  # noqa: S106  (nobody's)
        url = server.url.replace("right", "{env:PASSWORD}")
        with pytest.raises(StorageDenied, match="the channel redis://") as denied:
            train(tmp_path.as_uri(), url)
        assert "password" in one_line(denied.value, SECRET, "open%2Fsesame")
        assert list_runs(tmp_path.as_uri()) == []
        monkeypatch.setenv("PASSWORD", "right")
        record = train(tmp_path.as_uri(), url)
    assert record["model_sha256"] == model_of_files()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"worker:" in kept
    assert b"right@" not in kept


def test_a_user_who_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)
    with redis_server(user="worker", password=SECRET, rules="~* +@read +@connection") as server:
        url = server.url.replace("open%2Fsesame", "{env:PASSWORD}")
        with pytest.raises(StorageDenied, match="the channel redis://") as denied:
            train(tmp_path.as_uri(), url)
        assert "worker" in one_line(denied.value, SECRET, "open%2Fsesame")


def test_the_benchmark_of_a_full_server_starts_nobody() -> None:
    with redis_server(maxmemory=1) as server, pytest.raises(StorageFull, match="the channel redis://") as full:
        next(bench_collectives(server.url, workers=2, sizes=[1000], aggregators=[1]))
    assert "maxmemory" in one_line(full.value)


def test_full_memory_ends_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    store = tmp_path.as_uri()
    with redis_server(maxmemory=1 << 30) as server, redis.Redis.from_url(server.url) as client:
        with pytest.raises(WorkerFailed) as full:
            harmed(store, late(server.url), lambda: client.config_set("maxmemory", 1), **SOON)
        assert "maxmemory" in one_line(full.value)
        (record,) = list_runs(store)
        assert record["status"] == "failed"
        client.config_set("maxmemory", 0)
        resumed = resume_run(store, record["run"])
        assert client.dbsize() == 0
    assert resumed["model_sha256"] == model_of_files(rounds=LONG["rounds"])
