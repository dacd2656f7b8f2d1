"""Jobs for functions, and what is to be left of them: nothing."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_aws_lambda.testing import AwsServer
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord

SIZE = 4
LIMIT_S = 8
"""For a start and at least one round, of which there must not be two in a row that take longer."""

OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "ga_sgd": {"name": "ga_sgd", "learning_rate": 0.3, "momentum": 0.9},
    "admm": {"name": "admm"},
}


@functools.cache
def points() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """569 rows of two classes, a number that no number of workers here divides."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(569, 30))
    return x, (x[:, :5].sum(axis=1) > 0).astype(np.int64)


def functions(aws: AwsServer, **options: Any) -> dict[str, Any]:
    """The provider, and a store."""
    return {"store": aws.url, "provider": {"name": "aws-lambda", "memory_mb": 512, **aws.options, **options}}


def make_job(**keys: Any) -> Job:
    """A quick job; without a provider, on this machine."""
    values = {
        "workers": SIZE,
        "batch_size": 64,
        "rounds": 24,
        "optimizer": OPTIMIZERS["ga_sgd"],
        "recovery": {"heartbeat_s": 1.0},
    }
    return Job.from_mapping(values | keys)


def late(url: str, seconds: float) -> str:
    """A channel each of whose requests takes so much longer."""
    return f"fault+{url}{'&' if '?' in url else '?'}fault_delay=1&fault_delay_s={seconds}"


def train(**keys: Any) -> RunRecord:
    """Run a job."""
    return run_job(make_job(**keys), arrays=points())


@functools.cache
def right_model(optimizer: str, rounds: int) -> str:
    """The SHA-256 of the model that processes of this machine train, undisturbed."""
    with tempfile.TemporaryDirectory() as folder:
        record = train(store=f"file://{folder}", optimizer=OPTIMIZERS[optimizer], rounds=rounds)
    assert record["model_sha256"] is not None
    return record["model_sha256"]


def left(aws: AwsServer) -> list[str]:
    """All that the account has of runs: functions, roles, groups of logs, packages, channels.

    The stand-in makes a group of logs again for an invocation that ends with its function; AWS lets none of ours do so.
    Ours are told how long to keep what is in them.
    """
    pages = {
        ("lambda", "list_functions"): ("Functions", "FunctionName"),
        ("iam", "list_roles"): ("Roles", "RoleName"),
        ("logs", "describe_log_groups"): ("logGroups", "logGroupName"),
    }
    found = [
        each[name]
        for (service, listing), (what, name) in pages.items()
        for page in aws.client(service).get_paginator(listing).paginate()
        for each in page[what]
        if what != "logGroups" or "retentionInDays" in each
    ]
    objects = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=aws.url.partition("?")[0][5:])
    keys = [each["Key"] for page in objects for each in page.get("Contents", [])]
    return found + [key for key in keys if not key.startswith(("runs/", "data/"))]
