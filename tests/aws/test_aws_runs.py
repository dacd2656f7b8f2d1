"""Runs on functions of the stand-in, from the package to the model, and what is left of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from aws_help import LIMIT_S, OPTIMIZERS, SIZE, functions, late, left, right_model, train

from lambdaml_aws_lambda.testing import EARLY_S, REGION, AwsServer, aws_server
from lambdaml_core.run.driver.remote import read_logs
from lambdaml_core.testing.servers import free_port
from lambdaml_dynamodb.testing import make_table
from lambdaml_memcached.testing import MemcachedServer
from lambdaml_redis.testing import redis_server

ROUNDS, LATE_S = 40, 0.11
"""Each rank puts a value and gets one in each round: so late they take longer than its limit, on any machine."""
ANOTHER = "127.0.0.2"
"""An address that the plugin takes for another machine's."""


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsServer]:
    with aws_server(early=True) as server:
        yield server


@contextlib.contextmanager
def s3(aws: AwsServer) -> Iterator[str]:
    yield late(aws.url, LATE_S)  # asked again and again until a value is there


@contextlib.contextmanager
def dynamodb(aws: AwsServer) -> Iterator[str]:
    make_table(aws.endpoint, "lambdaml")
    yield late(f"dynamodb://lambdaml?region={REGION}&endpoint_url={aws.endpoint}", LATE_S)


@contextlib.contextmanager
def redis(_: AwsServer) -> Iterator[str]:
    with redis_server() as server:
        yield late(server.url, LATE_S)


@contextlib.contextmanager
def memcached(_: AwsServer) -> Iterator[str]:
    with MemcachedServer([], (ANOTHER, free_port())) as server:
        yield late(server.url, LATE_S)


@pytest.mark.parametrize(
    ("place", "optimizer"),
    [(s3, "ga_sgd"), (s3, "admm"), (redis, "ga_sgd"), (redis, "admm"), (memcached, "ga_sgd"), (dynamodb, "ga_sgd")],
)
def test_the_model_is_that_of_processes_although_time_is_up_again_and_again(
    aws: AwsServer, place: Callable[[AwsServer], AbstractContextManager[str]], optimizer: str
) -> None:
    """That of each rank at least once."""
    with place(aws) as channel:
        record = train(
            **functions(aws, max_duration_s=LIMIT_S + EARLY_S),
            channel=channel,
            optimizer=OPTIMIZERS[optimizer],
            rounds=ROUNDS,
        )
    assert record["successions"] >= SIZE
    assert record["model_sha256"] == right_model(optimizer, ROUNDS)
    assert record["exact"]
    assert left(aws) == []
    begun = [line for _, line in read_logs(aws.url, record["run"], 0) if '"event": "begin"' in line]
    assert len(begun) > 1, "the log of a rank has all of its attempts"
