"""Functions are made as they were planned, changed in place, found working before use, and shared where kept."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import WELL, client, everything, options, package, plan

import lambdaml_core
from lambdaml_aws_lambda import policy, removing
from lambdaml_aws_lambda.deploying import deploy_package
from lambdaml_aws_lambda.failures import Taken
from lambdaml_aws_lambda.testing import BUCKET, AwsServer, aws_server
from lambdaml_core.errors import OptionError, URLError, WorkerFailed

MAKES = {
    *("CreateRole", "PutRolePolicy", "CreateLogGroup", "CreateFunction"),
    *("UpdateFunctionCode", "UpdateFunctionConfiguration", "PutObject"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with aws_server() as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_left(server: AwsServer) -> Iterator[None]:
    yield
    assert not removing.remove_all(options(server, package_bucket=BUCKET)).left
    assert everything(server) == set()


def made_since(server: AwsServer, start: int) -> set[str]:
    return MAKES & {operation for _, operation in server.requests[start:]}


def test_all_is_made_as_it_was_planned(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server, memory_mb=300, ephemeral_mb=600, max_duration_s=12.5, log_retention_days=14)
    deployed = deploy_package(client(server), planned, package(tmp_path), keep=False)
    name = planned["function"]
    made = {"function": name, "role": name, "log_group": name}
    assert deployed == {"function": name, "region": "us-east-1", "made": made}
    assert everything(server) == {f"function {name}", f"role {name}", f"log group /aws/lambda/{name}"}

    functions, roles, logs = server.client("lambda"), server.client("iam"), server.client("logs")
    found = functions.get_function_configuration(FunctionName=name)
    assert (found["MemorySize"], found["EphemeralStorage"]["Size"], found["Timeout"]) == (300, 600, 13)
    assert found["Environment"]["Variables"].items() >= dict(planned["settings"]["variables"]).items()
    assert found["Architectures"] == ["x86_64"]
    assert functions.get_function_event_invoke_config(FunctionName=name)["MaximumRetryAttempts"] == 0
    assert functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
    role = roles.get_role(RoleName=name)["Role"]
    assert (role["Path"], role["AssumeRolePolicyDocument"]) == ("/lambdaml/", policy.TRUST)
    document = roles.get_role_policy(RoleName=name, PolicyName="lambdaml")["PolicyDocument"]
    assert document == policy.worker_policy(planned, name, role["Arn"].split(":")[4])
    (group,) = logs.describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 14
    tags = functions.list_tags(Resource=found["FunctionArn"])["Tags"]
    assert tags.keys() >= {"lambdaml", "lambdaml:function", "lambdaml:region", "lambdaml:run"}
    assert {tag["Key"] for tag in role["Tags"]} == tags.keys() - {"lambdaml:ready"}


def test_what_is_there_is_left_as_it_is(server: AwsServer, tmp_path: Path) -> None:
    planned, zipped = plan(server), package(tmp_path)
    first = deploy_package(client(server), planned, zipped, keep=False)
    start = len(server.requests)
    assert deploy_package(client(server), planned, zipped, keep=False) == first
    assert made_since(server, start) == {"CreateRole", "PutRolePolicy", "CreateLogGroup"}  # they tell that all is there


def test_what_differs_is_changed_in_place(server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_WORD", "one")
    planned = plan(server, of={"environment": ["CACHE_WORD"]})
    deploy_package(client(server), planned, package(tmp_path), keep=True)
    monkeypatch.setenv("CACHE_WORD", "two")
    other = package(tmp_path, '{"places": {}, "error": None, "word": os.environ["CACHE_WORD"]}')
    start = len(server.requests)
    deploy_package(client(server), planned, other, keep=True)
    assert made_since(server, start) >= {"UpdateFunctionCode", "UpdateFunctionConfiguration"}
    answer = server.client("lambda").invoke(FunctionName=planned["kept"], Payload=b"{}")
    assert json.loads(answer["Payload"].read())["word"] == "two"


def test_runs_use_what_was_kept_for_them_and_leave_it(
    server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_WORD", "one")
    planned = plan(server, of={"environment": ["CACHE_WORD"]})
    kept = deploy_package(client(server), planned, package(tmp_path), keep=True)
    assert kept == {"function": planned["kept"], "region": "us-east-1", "made": {}}
    run = deploy_package(client(server), planned, package(tmp_path), keep=False)
    assert run == kept
    assert removing.remove(options(server), run) == []
    assert f"function {planned['kept']}" in everything(server)

    other_code = deploy_package(client(server), planned, package(tmp_path, start="pass"), keep=False)
    monkeypatch.setenv("CACHE_WORD", "two")
    other_value = deploy_package(client(server), planned, package(tmp_path), keep=False)
    assert other_code["function"] == other_value["function"] == planned["function"]  # what was kept would be wrong
    done = removing.remove_kept(options(server), planned)
    assert (len(done.removed), done.left) == (3, [])
    assert removing.remove_kept(options(server), planned) == ([], [])


def test_what_an_interrupted_deploy_has_made_is_completed(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server)
    broken = package(tmp_path, start="raise ImportError('no module named pandas')")
    with pytest.raises(WorkerFailed):
        deploy_package(client(server), planned, broken, keep=True)
    run = deploy_package(client(server), planned, broken_no_more := package(tmp_path), keep=False)
    assert run["function"] == planned["function"]  # what was never found working is not used
    assert deploy_package(client(server), planned, broken_no_more, keep=True)["function"] == planned["kept"]


@pytest.mark.parametrize(
    ("start", "answer", "limit_s", "said"),
    [
        ("import nothing_of_that_name", WELL, 240, "nothing_of_that_name"),
        ("", '{"places": {}, "error": "numpy is not there"}', 240, "does not work: numpy is not there"),
        (
            "",
            '{"places": {"redis://cache": "it does not answer"}, "error": None}',
            240,
            "cannot use redis://cache: it does",
        ),
        ("", "[1]", 240, "answers [1]"),
        ("", "[bytearray(2**28) for _ in range(9)] and 1", 240, "128 MB are too little"),
        ("", "__import__('time').sleep(600)", 1, "does not answer within its 1 s"),
    ],
)
def test_a_function_that_does_not_work_is_told_and_removed(
    server: AwsServer, tmp_path: Path, start: str, answer: str, limit_s: float, said: str
) -> None:
    planned = plan(server, memory_mb=128, max_duration_s=limit_s)
    with pytest.raises(WorkerFailed) as raised:
        deploy_package(client(server), planned, package(tmp_path, answer, start=start), keep=False, settles_s=0.0)
    assert said in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert everything(server) == set()


def test_a_large_package_goes_through_the_bucket_once(server: AwsServer, tmp_path: Path) -> None:
    large = package(tmp_path, ballast=os.urandom(51 << 20))
    one, two = (plan(server, package_bucket=BUCKET) for _ in range(2))
    first = deploy_package(client(server), one, large, keep=False)
    start = len(server.requests)
    second = deploy_package(client(server), two, large, keep=False)
    assert "PutObject" not in made_since(server, start)
    (stored,) = (name for name in everything(server) if name.startswith("object"))
    assert stored == f"object lambdaml/packages/{large.sha256}.zip"
    assert removing.remove(options(server), first) == []
    assert stored in everything(server)  # of the other one, too
    assert removing.remove(options(server), second) == []
    assert everything(server) == set()


def test_names_of_others_are_theirs(server: AwsServer, tmp_path: Path) -> None:
    planned, roles = plan(server), server.client("iam")
    roles.create_role(RoleName=planned["function"], AssumeRolePolicyDocument=json.dumps(policy.TRUST))
    with pytest.raises(Taken, match="has not made"):
        deploy_package(client(server), planned, package(tmp_path), keep=False)
    assert everything(server) == {f"role {planned['function']}"}
    roles.delete_role(RoleName=planned["function"])


def test_values_reach_functions_by_a_secret_or_their_environment(
    server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_WORD", "geheim")
    by_secret = plan(server, secret="lambdaml/cache", of={"environment": ["CACHE_WORD"]})  # noqa: S106  (a name)
    assert "geheim" not in json.dumps(by_secret)
    assert "geheim" not in json.dumps(deploy_package(client(server), by_secret, package(tmp_path), keep=False))
    found = server.client("lambda").get_function_configuration(FunctionName=by_secret["function"])
    assert "geheim" not in json.dumps(found, default=str)
    assert found["Environment"]["Variables"]["LAMBDAML_SECRET"] == "lambdaml/cache"  # noqa: S105
    for name, value, error in (
        ("AWS_WORD", "x", OptionError),
        ("LONG", "x" * 4096, OptionError),
        ("GONE", None, URLError),
    ):
        if value is not None:
            monkeypatch.setenv(name, value)
        with pytest.raises(error):
            deploy_package(client(server), plan(server, of={"environment": [name]}), package(tmp_path), keep=False)


def test_a_function_sees_neither_this_process_nor_its_code(
    server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBDAML_TEST_WORD", "mine")
    look = '{"places": {}, "error": None, "env": dict(os.environ), "path": sys.path, "code": os.path.exists(CODE)}'
    start = f"CODE = {str(Path(lambdaml_core.__file__))!r}"
    planned = plan(server)
    deploy_package(client(server), planned, package(tmp_path, look, start=start), keep=False)
    answer = server.client("lambda").invoke(FunctionName=planned["function"], Payload=b"{}")
    said = json.loads(answer["Payload"].read())
    assert not {"LAMBDAML_TEST_WORD", "AUTH", "HOME"} & said["env"].keys()
    assert not set(sys.path[1:]) & {path for path in said["path"] if "site-packages" in path}
    assert not said["code"]
