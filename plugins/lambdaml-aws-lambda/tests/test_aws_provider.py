"""The provider without an account: its plan, what it says of strangers, and secrets that it hands over."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from aws_answers import Answer, answering

from lambdaml_aws_lambda import secret
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.provider import AwsLambdaProvider
from lambdaml_core.errors import LaunchFailed, OptionError
from lambdaml_core.testing.provider import ProviderPlanLaws

FUNCTION = "lambdaml-law-abcdefgh"
DEPLOYMENT = {"region": "us-east-1", "function": FUNCTION, "made": {}}


class TestPlan(ProviderPlanLaws):
    """It asks nobody."""

    @pytest.fixture
    def provider(self) -> AwsLambdaProvider:
        return AwsLambdaProvider(AwsLambdaOptions(region="us-east-1"))


def provider(endpoint_url: str) -> AwsLambdaProvider:
    return AwsLambdaProvider(AwsLambdaOptions(endpoint_url=endpoint_url))


def test_a_handle_that_is_none_of_ours_is_unknown_and_nobody_is_asked() -> None:
    strangers = ["", "aws-lambda:", f"aws-lambda:us-east-1:{FUNCTION}/../x", f"aws-lambda:us-east-1:other/{'0' * 8}"]
    with answering() as service:
        assert set(provider(service.endpoint).poll(strangers).values()) == {"unknown"}
    assert service.asked == []


def test_who_may_not_read_logs_is_told_so_and_polls_nothing() -> None:
    said = "User: arn:aws:iam::123456789012:user/eve is not authorized to perform: logs:FilterLogEvents"
    denied = Answer(400, {"__type": "AccessDeniedException", "message": said})
    handle = f"aws-lambda:us-east-1:{FUNCTION}/{'0' * 8}"
    with answering(denied, *[denied] * 9) as service:
        assert provider(service.endpoint).poll([handle]) == {handle: "unknown"}
        [line] = provider(service.endpoint).logs(DEPLOYMENT, "run-1", None, 0.0)
    assert "logs:FilterLogEvents" in line
    assert "123456789012" not in line


def test_a_deployment_of_somebody_else_s_function_is_refused() -> None:
    with pytest.raises(OptionError, match="no function of LambdaML's"):
        AwsLambdaProvider(AwsLambdaOptions()).launcher({**DEPLOYMENT, "function": "payments"})


def test_a_secret_becomes_variables() -> None:
    assert secret.checked("mine", '{"REDIS_PASSWORD": "open/sesame"}') == {"REDIS_PASSWORD": "open/sesame"}
    for text in ("", "open/sesame", "[]", '{"A": 1}', "{" * 10_000, '{"open/sesame": "A"}', '{"AWS_REGION": "sesame"}'):
        with pytest.raises(LaunchFailed) as e:
            secret.checked("mine", text)
        assert e.value.hint
        assert "sesame" not in f"{e.value.message} {e.value.hint} {e.value.__cause__}"


def test_a_function_reads_its_secret_once() -> None:
    value = Answer(body={"SecretString": json.dumps({"PASSWORD": "open/sesame"})})
    with answering(value) as service:
        variables = {secret.SECRET: "mine", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": service.endpoint}
        code = (
            "import os; from lambdaml_aws_lambda import secret\n"
            "for _ in range(2): secret.load(os.environ); print(os.environ['PASSWORD'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["open/sesame"] * 2
    assert [asked.body["SecretId"] for asked in service.asked] == ["mine"]


def test_a_function_without_a_secret_asks_nobody() -> None:
    variables = {"AWS_REGION": "us-east-1"}
    secret.load(variables)
    assert variables == {"AWS_REGION": "us-east-1"}
