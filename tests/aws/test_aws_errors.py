"""What goes wrong in AWS is one line with its remedy, and nothing is left of what was begun."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cloud import client, everything, job, options, package, plan
from botocore.exceptions import ClientError

from lambdaml_aws_lambda import policy, quotas, removing
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.deploying import deploy_package
from lambdaml_aws_lambda.failures import CloudBusy, CloudDenied, CloudError, CloudQuota, NotThere, Taken, translated
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.planning import make_plan
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_aws_lambda.testing import AwsServer, aws_server
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.testing.servers import environment, free_port

SECRET = re.compile(r"arn:|[0-9]{12}|test-secret")


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with aws_server(concurrency=20) as started:
        yield started


def check_line(error: LambdaMLError) -> None:
    assert "\n" not in error.message
    assert error.hint
    assert not SECRET.search(f"{error.message} {error.hint}")


def without(plan: Plan, action: str) -> dict[str, Any]:
    """What a person needs, but for one permission."""
    allowed = policy.user_policy(plan)
    for statement in allowed["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
    return {**allowed, "Statement": [statement for statement in allowed["Statement"] if statement["Action"]]}


def deploy(server: AwsServer, planned: Plan, tmp_path: Path) -> None:
    quotas.check(client(server), planned)
    deploy_package(client(server), planned, package(tmp_path), keep=False)


def test_the_policy_of_a_plan_is_enough(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server)
    with environment("AWS_", server.environment | server.add_user("enough", policy.user_policy(planned))):
        quotas.check(client(server), planned)
        deploy_package(client(server), planned, package(tmp_path), keep=True)
        run = deploy_package(client(server), planned, package(tmp_path, start="pass"), keep=False)
        assert removing.remove(options(server), run) == []
        done = removing.remove_all(options(server))
        assert (len(done.removed), done.left) == (3, [])


@pytest.mark.parametrize(
    "action",  # but for those that ministack guards by no permission
    [
        "iam:CreateRole",
        "iam:PutRolePolicy",
        "lambda:CreateFunction",
        "lambda:GetFunctionConfiguration",
        "lambda:InvokeFunction",
        "lambda:TagResource",
        "logs:CreateLogGroup",
        "logs:PutRetentionPolicy",
    ],
)
def test_each_missing_permission_is_named(server: AwsServer, tmp_path: Path, action: str) -> None:
    planned = plan(server)
    user = server.add_user(action.replace(":", "-"), without(planned, action))
    with environment("AWS_", server.environment | user), pytest.raises(CloudDenied) as raised:
        deploy(server, planned, tmp_path)
    assert action in raised.value.message
    assert action in str(raised.value.hint)
    check_line(raised.value)
    removing.remove_all(options(server))  # who may not look may not remove, either
    assert everything(server) == set()


@pytest.mark.parametrize(
    "wrong",
    [
        {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"},
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
        {"AWS_ACCESS_KEY_ID": "ASIAIOSFODNN7EXAMPLE", "AWS_SESSION_TOKEN": "of-yesterday"},
    ],
)
def test_wrong_credentials_are_told_without_showing_them(
    server: AwsServer, tmp_path: Path, wrong: dict[str, str]
) -> None:
    user = server.add_user(f"wrong-{len(server.requests)}", policy.user_policy(plan(server)))
    with (
        environment("AWS_", server.environment | user | wrong),
        pytest.raises(CloudDenied, match="credentials") as raised,
    ):
        deploy_package(client(server), plan(server), package(tmp_path), keep=False)
    check_line(raised.value)
    assert not any(word in raised.value.message for word in wrong.values())


def test_no_credentials_and_no_such_profile(server: AwsServer, tmp_path: Path) -> None:
    config = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    with environment("AWS_", {"AWS_EC2_METADATA_DISABLED": "true", **config}):
        with pytest.raises(CloudDenied, match="no AWS credentials") as raised:
            quotas.unreserved(client(server))
        check_line(raised.value)
        with pytest.raises(CloudDenied, match="nobody") as raised:
            Client(options(server, profile="nobody"))
        check_line(raised.value)
        with pytest.raises(LambdaMLError, match=r"provider\.region") as unnamed:
            make_plan(AwsLambdaOptions(), job("memory://here"))
        check_line(unnamed.value)


def test_nobody_answers() -> None:
    nowhere = AwsLambdaOptions(region="us-east-1", endpoint_url=f"http://127.0.0.1:{free_port()}")
    with (
        environment("AWS_", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}),
        pytest.raises(CloudBusy, match="cannot be reached") as raised,
    ):
        quotas.unreserved(Client(nowhere))
    check_line(raised.value)


def test_a_bucket_of_another_account(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server, package_bucket="somebody-elses-bucket")
    elsewhere = policy.user_policy(plan(server))  # which knows nothing of that bucket
    large = package(tmp_path, ballast=bytes(51 << 20))
    server.client("s3").create_bucket(Bucket="somebody-elses-bucket")
    user = server.add_user("elsewhere", elsewhere)
    with (
        environment("AWS_", server.environment | user),
        pytest.raises(CloudDenied, match="somebody-elses-bucket") as raised,
    ):
        deploy_package(client(server), planned, large, keep=False)
    check_line(raised.value)
    assert "another account" in str(raised.value.hint)
    assert everything(server) == set()


def test_a_bucket_that_is_missing(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server, package_bucket="nobodys-bucket")
    with pytest.raises(NotThere, match="nobodys-bucket") as raised:
        deploy_package(client(server), planned, package(tmp_path, ballast=bytes(51 << 20)), keep=False)
    check_line(raised.value)
    assert everything(server) == set()


def test_a_role_that_is_missing(server: AwsServer, tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="nobodys-role") as raised:
        deploy_package(client(server), plan(server, role="nobodys-role"), package(tmp_path), keep=False)
    check_line(raised.value)


def test_a_quota_that_is_too_low_is_told_before_anything_is_made(server: AwsServer) -> None:
    planned = plan(server, of={"workers": 21})
    with pytest.raises(CloudQuota, match="21 workers, and 20 functions") as raised:
        quotas.check(client(server), planned)
    check_line(raised.value)
    quotas.check(client(server), plan(server, of={"workers": 20}))


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        ("TooManyRequestsException", 429, "Rate Exceeded.", CloudBusy),
        ("ThrottlingException", 400, "Rate exceeded", CloudBusy),
        ("InternalError", 500, "", CloudBusy),
        ("ResourceConflictException", 409, "Function already exist", Taken),
        ("ResourceNotFoundException", 404, "Function not found", NotThere),
        ("CodeStorageExceededException", 400, "Code storage limit exceeded.", CloudQuota),
        ("InvalidParameterValueException", 400, "decreases UnreservedConcurrentExecution below [100]", CloudQuota),
        ("InvalidParameterValueException", 400, "S3 Error Code: PermanentRedirect", CloudError),
        ("RequestEntityTooLargeException", 413, "Request must be smaller", CloudError),
        ("ExpiredTokenException", 403, "The security token included in the request is expired", CloudDenied),
        ("SignatureDoesNotMatch", 403, "token=geheim\nhost:lambda", CloudDenied),
        ("403", 403, "Forbidden", CloudDenied),
        ("Odd", 400, "of arn:aws:lambda:us-east-1:123456789012:function:x in 123456789012", CloudError),
    ],
)
def test_each_of_awss_words_has_its_kind(code: str, status: int, message: str, kind: type[LambdaMLError]) -> None:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(LambdaMLError) as raised, translated("doing this"):
        raise ClientError(answer, "Doing")
    assert type(raised.value) is kind
    assert raised.value.message.startswith("doing this: ")
    assert "geheim" not in raised.value.message
    check_line(raised.value)


def test_what_nobody_has_thought_of_is_an_error_of_ours_too() -> None:
    with pytest.raises(CloudError, match="ZeroDivisionError") as raised, translated("doing this"):
        _ = 1 / 0
    check_line(raised.value)
