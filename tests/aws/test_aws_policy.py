"""What functions and people are allowed, and what a plan says; nothing is asked of anybody."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from aws_cloud import job
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_aws_lambda import names, policy
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.planning import make_plan
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_aws_lambda.testing import violations
from lambdaml_core.errors import OptionError

RUNTIME = "provided.al2023"
STORE = "memory://here"


def plan_of(*places: tuple[str, str, bool], region: str = "us-east-1", **settings: Any) -> Plan:
    """As much of a plan as permissions follow from; each place a plugin, a URL, and whether workers write there."""
    given_ = {"region": region, "role": None, "secret": None, "subnets": [], "package_bucket": None, **settings}
    made = [{"url": url, "storage": reference(name), "writes": writes} for name, url, writes in places]
    return cast(Plan, {"settings": given_, "places": made})


def reference(name: str, inner: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"kind": "storage", "name": name, "factory": "", "options": "", "values": {}, "inner": inner}


def allowed(document: dict[str, Any]) -> dict[str, list[str]]:
    """Actions by resource."""
    return {str(s["Resource"]): s["Action"] for s in document["Statement"]}


OWN = {
    "arn:aws:logs:us-east-1:1:log-group:/aws/lambda/lambdaml-x:*": ["logs:CreateLogStream", "logs:PutLogEvents"],
    "arn:aws:lambda:us-east-1:1:function:lambdaml-x": ["lambda:InvokeFunction"],
}
OBJECTS = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
READ_ITEMS = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"]


@pytest.mark.parametrize(
    ("plan", "places"),
    [
        (plan_of(), {}),
        (plan_of(("redis", "redis://cache:6379", True)), {}),
        (
            plan_of(("s3", "s3://bucket/a/b", True)),
            {"arn:aws:s3:::bucket/a/b/*": OBJECTS, "arn:aws:s3:::bucket": ["s3:ListBucket"]},
        ),
        (
            plan_of(("s3", "s3://bucket", False)),
            {"arn:aws:s3:::bucket/*": ["s3:GetObject"], "arn:aws:s3:::bucket": ["s3:ListBucket"]},
        ),
        (
            plan_of(("s3", "s3://fast--use1-az4--x-s3/p", True)),
            {"arn:aws:s3express:us-east-1:1:bucket/fast--use1-az4--x-s3": ["s3express:CreateSession"]},
        ),
        (plan_of(("dynamodb", "dynamodb://t/p", False)), {"arn:aws:dynamodb:us-east-1:1:table/t": READ_ITEMS}),
        (
            plan_of(("dynamodb", "dynamodb://t", True)),
            {
                "arn:aws:dynamodb:us-east-1:1:table/t": sorted(
                    [*READ_ITEMS, "dynamodb:BatchWriteItem", "dynamodb:PutItem"]
                )
            },
        ),
        (
            plan_of(secret="lambdaml/cache"),  # noqa: S106  (a name)
            {"arn:aws:secretsmanager:us-east-1:1:secret:lambdaml/cache-??????": ["secretsmanager:GetSecretValue"]},
        ),
    ],
)
def test_a_function_may_use_its_places_print_and_start_its_successors(plan: Plan, places: dict[str, list[str]]) -> None:
    assert allowed(policy.worker_policy(plan, "lambdaml-x", "1")) == {**places, **OWN}


def test_interfaces_are_for_functions_in_a_vpc_alone() -> None:
    outside, within = (policy.worker_policy(plan_of(subnets=ids), "lambdaml-x") for ids in ([], ["subnet-1"]))
    assert "*" not in allowed(outside)
    assert {action.partition(":")[0] for action in allowed(within)["*"]} == {"ec2"}


def test_layers_are_looked_through() -> None:
    plan = plan_of(("s3", "slow+s3://bucket/p?slow_s=1", True))
    layered = [{**plan["places"][0], "storage": reference("slow", reference("s3"))}]
    assert "arn:aws:s3:::bucket/p/*" in allowed(policy.worker_policy({**plan, "places": layered}, "lambdaml-x"))


def test_other_parts_of_aws_have_their_own_arns() -> None:
    for region, word in (("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")):
        text = json.dumps(policy.user_policy(plan_of(("s3", "s3://b", True), region=region)))
        assert f"arn:{word}:s3:::b" in text
        assert "arn:aws:" not in text


def test_whoever_names_a_role_needs_to_make_none() -> None:
    text = json.dumps(policy.user_policy(plan_of(role="workers")))
    assert set(re.findall(r"iam:\w+", text)) == {"iam:GetRole", "iam:PassRole", "iam:PassedToService", "iam:ListRoles"}


def test_equal_jobs_have_one_kept_function_and_each_run_one_of_its_own() -> None:
    def made(memory_mb: int = 256, store: str = STORE, **more: Any) -> Plan:
        return make_plan(AwsLambdaOptions(region="us-east-1", runtime=RUNTIME, memory_mb=memory_mb), job(store, **more))

    one, again = made(), made(name="other", workers=7)
    assert one["kept"] == again["kept"]
    assert one["function"] != again["function"]
    others = (made(512), made(environment=["TOKEN"]), made(modules=["lambdaml_core", "lambdaml_aws_lambda"]))
    assert len({one["kept"], *(plan["kept"] for plan in others)}) == 4


@given(st.none() | st.text())
def test_names_are_any_for_whatever_a_job_is_called(word: str | None) -> None:
    name = names.function_of_run(word)
    assert names.check_ours(name) == name
    assert not list(violations("CreateFunction", {"FunctionName": name, "RoleName": name}))


@pytest.mark.parametrize("name", ["", "prod-db", "lambdaml-", "lambdaml-x/y", "lambdaml-" + "a" * 60, "lambdaml-X"])
def test_what_lambdaml_never_makes_is_no_name_of_its_function(name: str) -> None:
    with pytest.raises(OptionError):
        names.check_ours(name)


@pytest.mark.parametrize("key", ["runs/model", "lambdaml/packages/../x.zip", "lambdaml/packages/abc.zip"])
def test_what_lambdaml_never_makes_is_no_package_of_its(key: str) -> None:
    with pytest.raises(OptionError):
        names.check_package(key)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"region": "us-nowhere-1"}, "no region us-nowhere-1"),
        ({"region": "moon"}, "is no region"),
        ({"log_retention_days": 8}, "knows no 8"),
        ({"subnets": ("subnet-0123456789",)}, "together"),
        ({"subnets": ("lan",), "security_groups": ("sg-01234567",)}, "'lan' cannot be used"),
        ({"role": "arn:aws:iam::1:role/x"}, "provider.role"),
        ({"secret": "a b"}, "provider.secret"),
        ({"package_bucket": "A"}, "provider.package_bucket"),
        ({"reserved_concurrency": 3}, "less than 4 workers"),
        ({"runtime": "python2.7"}, "python2.7"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)) as raised:
        make_plan(AwsLambdaOptions(**{"region": "us-east-1", "runtime": RUNTIME, **options}), job(STORE))
    assert raised.value.hint


@pytest.mark.parametrize(
    ("operation", "params", "said"),
    [
        ("Invoke", {"FunctionName": "x", "InvocationType": "Event", "Payload": bytes((1 << 20) + 1)}, "payload"),
        ("CreateFunction", {"FunctionName": "x" * 65}, "FunctionName"),
        ("PutRolePolicy", {"PolicyDocument": "x" * 10_241}, "policy"),
        ("CreateFunction", {"Environment": {"Variables": {"A": "x" * 4096}}}, "environment"),
        ("CreateFunction", {"Tags": {str(n): "" for n in range(51)}}, "tags"),
        ("CreateFunction", {"Code": {"ZipFile": bytes(51 << 20)}}, "zip file"),
    ],
)
def test_limits_that_the_stand_in_does_not_hold_are_held(operation: str, params: dict[str, Any], said: str) -> None:
    assert next(violations(operation, params)).startswith(said)
