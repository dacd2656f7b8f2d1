"""Whatever has our tag goes, page after page, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import client, everything, options, package, plan

from lambdaml_aws_lambda import policy, removing
from lambdaml_aws_lambda.deploying import deploy_package
from lambdaml_aws_lambda.names import package_key
from lambdaml_aws_lambda.testing import BUCKET, AwsServer, aws_server
from lambdaml_core.testing.servers import environment

TAGS = {"lambdaml": "0.1.0", "lambdaml:region": "us-east-1", "lambdaml:bucket": BUCKET}


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with aws_server() as started:
        yield started


@pytest.fixture(autouse=True)
def empty(server: AwsServer) -> Iterator[None]:
    assert everything(server) == set()
    yield
    removing.remove_all(options(server))
    assert everything(server) == set()


def make(server: AwsServer, name: str, zipped: bytes, tags: dict[str, str]) -> None:
    """A role, a function and a log group of one name."""
    role = server.client("iam").create_role(
        Path="/lambdaml/",
        RoleName=name,
        AssumeRolePolicyDocument=json.dumps(policy.TRUST),
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    server.client("logs").create_log_group(logGroupName=f"/aws/lambda/{name}", tags=tags)
    make_function(server, name, zipped, tags, role["Role"]["Arn"])


def make_function(server: AwsServer, name: str, zipped: bytes, tags: dict[str, str], role: str) -> None:
    server.client("lambda").create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler="x",
        Role=role,
        Code={"ZipFile": zipped},
        Tags=tags,
    )


def unmake(server: AwsServer, name: str) -> None:
    server.client("iam").delete_role(RoleName=name)
    server.client("logs").delete_log_group(logGroupName=f"/aws/lambda/{name}")
    server.client("lambda").delete_function(FunctionName=name)


def test_all_pages_go_and_with_them_packages_that_nothing_is_made_of(server: AwsServer, tmp_path: Path) -> None:
    zipped = package(tmp_path).path.read_bytes()
    make(server, "lambdaml-x", zipped, TAGS)
    role = server.client("iam").get_role(RoleName="lambdaml-x")["Role"]["Arn"]
    for number in range(50):  # a page of functions has 50
        make_function(server, f"lambdaml-x-{number}", zipped, TAGS, role)
    server.client("s3").put_object(Bucket=BUCKET, Key=package_key("0" * 64), Body=b"")
    done = removing.remove_all(options(server))
    assert done.left == []
    assert len(done.removed) == 3 + 50 + 1
    assert everything(server) == set()
    assert removing.remove_all(options(server)) == ([], [])


@pytest.mark.parametrize("tags", [{}, {**TAGS, "lambdaml:region": "eu-west-1"}])
def test_what_is_not_ours_or_of_another_region_is_left_alone(
    server: AwsServer, tmp_path: Path, tags: dict[str, str]
) -> None:
    make(server, "lambdaml-theirs", package(tmp_path).path.read_bytes(), tags)
    server.client("s3").put_object(Bucket=BUCKET, Key="lambdaml/packages/notes.txt", Body=b"")
    before = everything(server)
    made = {"function": "lambdaml-theirs", "role": "lambdaml-theirs", "log_group": "lambdaml-theirs"}
    assert removing.remove_all(options(server, package_bucket=BUCKET)) == ([], [])
    assert removing.remove_made(client(server), made) == ([], [])
    assert everything(server) == before
    unmake(server, "lambdaml-theirs")
    server.client("s3").delete_object(Bucket=BUCKET, Key="lambdaml/packages/notes.txt")


def test_what_cannot_be_removed_is_told_and_keeps_nothing_else(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server)
    deployed = deploy_package(client(server), planned, package(tmp_path), keep=False)
    allowed = policy.user_policy(planned)
    for statement in allowed["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != "iam:DeleteRole"]
    with environment("AWS_", server.environment | server.add_user("no-iam", allowed)):
        (left,) = removing.remove(options(server), deployed)
    assert left.startswith(f"role {planned['function']}: ")
    assert "iam:DeleteRole" in left
    assert everything(server) == {f"role {planned['function']}"}
    assert removing.remove(options(server), deployed) == []
    assert removing.remove(options(server), deployed) == []
