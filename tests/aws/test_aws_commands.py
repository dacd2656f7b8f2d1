"""The way that the plugin's README goes, by its commands, as a user with the permissions that a plan names, no more."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_help import left

from lambdaml_aws_lambda.testing import AwsServer
from lambdaml_core.cli import main
from lambdaml_core.testing.servers import environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "aws_lambda.toml"


@pytest.fixture
def here(aws: AwsServer) -> list[str]:
    """Words that have the example run on the stand-in."""
    options = {"memory_mb": 512, **aws.options}
    settings = {"store": aws.url, "rounds": 4, **{f"provider.{name}": value for name, value in options.items()}}
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def user(aws: AwsServer, here: list[str], capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What follows is done by somebody with the permissions of the plan."""
    policy = done(capsys, "plan", str(EXAMPLE), *here)["permissions"]["user"]
    name = f"walker-{secrets.token_hex(4)}"
    with environment("AWS_", {**aws.environment, **aws.add_user(name, policy)}):
        yield


def done(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What a command prints."""
    code = main([*words, "--json"])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0, said
    return said


@pytest.mark.usefixtures("user")
def test_deploys_trains_twice_and_tears_down(
    aws: AwsServer, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = done(capsys, "deploy", str(EXAMPLE), *here)
    there = left(aws)
    assert first["deployment"]["function"] in there
    assert done(capsys, "deploy", str(EXAMPLE), *here) == first
    assert left(aws) == there
    for seed in (0, 1):
        record = done(capsys, "train", str(EXAMPLE), *here, "--set", f"seed={seed}")
        assert (record["status"], record["rounds"]) == ("succeeded", 4)
        assert record["cost_usd"] > 0
        assert left(aws) == there, "the run leaves what was there, and nothing else"
    removed = done(capsys, "teardown", str(EXAMPLE), *here)
    assert {"function", "role", "log"} <= {line.split()[0] for line in removed["removed"]}
    assert removed["left"] == []
    assert left(aws) == []
    assert done(capsys, "teardown", str(EXAMPLE), *here)["removed"] == []


@pytest.mark.usefixtures("user")
def test_tears_down_all(aws: AwsServer, here: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    functions = {
        done(capsys, "deploy", str(EXAMPLE), *here, "--set", f"provider.ephemeral_mb={room}")["deployment"]["function"]
        for room in (512, 640)
    }
    assert len(functions) == 2
    strangers = aws.client("logs")
    strangers.create_log_group(logGroupName="/aws/lambda/lambdaml-not-ours")
    strangers.put_retention_policy(logGroupName="/aws/lambda/lambdaml-not-ours", retentionInDays=1)
    options = [word for name, value in aws.options.items() for word in ("--set", f"provider.{name}={value}")]
    removed = done(capsys, "teardown", "--all", "--provider", "aws-lambda", *options)
    assert all(any(function in line for line in removed["removed"]) for function in functions)
    assert left(aws) == ["/aws/lambda/lambdaml-not-ours"]
    strangers.delete_log_group(logGroupName="/aws/lambda/lambdaml-not-ours")
