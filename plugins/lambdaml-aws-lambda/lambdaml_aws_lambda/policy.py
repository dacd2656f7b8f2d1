"""IAM policies as JSON: what a function may do, and what the person needs who makes it. Nothing more than either needs.

Accounts are written ``*`` unless one is given: a plan knows none, and records are to hold none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lambdaml_aws_lambda.names import MARK, PACKAGES, ROLE_PATH, log_group
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_core.specs import Reference
from lambdaml_core.storage import StorageURL

LONGEST_POLICY = 10_240
"""Characters of all policies within a role, white space not counted."""

TRUST: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
"""Who may take the role of a function: AWS Lambda."""

_READ, _WRITE = ("s3:GetObject",), ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
_TABLE_READ = ("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query")
_TABLE_WRITE = ("dynamodb:BatchWriteItem", "dynamodb:PutItem")
_INTERFACES = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)
_FUNCTION = (
    "lambda:CreateFunction",
    "lambda:DeleteFunction",
    "lambda:DeleteFunctionConcurrency",
    "lambda:GetFunctionConfiguration",
    "lambda:GetFunctionRecursionConfig",
    "lambda:InvokeFunction",
    "lambda:ListTags",
    "lambda:PutFunctionConcurrency",
    "lambda:PutFunctionEventInvokeConfig",
    "lambda:PutFunctionRecursionConfig",
    "lambda:TagResource",
    "lambda:UpdateFunctionCode",
    "lambda:UpdateFunctionConfiguration",
)
_ROLE = (
    "iam:CreateRole",
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:GetRole",
    "iam:PutRolePolicy",
    "iam:TagRole",
)
_LOGS = (
    "logs:CreateLogGroup",
    "logs:DeleteLogGroup",
    "logs:FilterLogEvents",
    "logs:ListTagsForResource",
    "logs:PutRetentionPolicy",
    "logs:TagResource",
)
_LISTING = ("iam:ListRoles", "lambda:GetAccountSettings", "lambda:ListFunctions", "logs:DescribeLogGroups")
_IN_VPC = (
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",  # as AWS Lambda does in the name of who makes a function in one
)


def worker_policy(plan: Plan, function: str, account: str = "*") -> dict[str, Any]:
    """What a function of this plan may do: use its places, print, start its successors; read its secret, and have a
    network interface, where it needs to.

    Args:
        account: number of the account that the function is in.
    """
    settings, region = plan["settings"], str(plan["settings"]["region"])
    arn = _arns(region, account)
    statements = [
        *places(plan, account),
        _allow(("logs:CreateLogStream", "logs:PutLogEvents"), arn("logs", f"log-group:{log_group(function)}:*")),
        _allow(("lambda:InvokeFunction",), arn("lambda", f"function:{function}")),
    ]
    if settings["secret"] is not None:
        statements.append(_allow(("secretsmanager:GetSecretValue",), _secret(settings, account)))
    if settings["subnets"]:
        statements.append(_allow(_INTERFACES, "*"))  # AWS knows no resources for these
    return _document(statements)


def user_policy(plan: Plan) -> dict[str, Any]:
    """What a person needs to plan, deploy, train, watch and clean up with such a plan."""
    settings, region = plan["settings"], str(plan["settings"]["region"])
    arn = _arns(region, "*")
    role = f"arn:{partition(region)}:iam::*:role{ROLE_PATH}{MARK}-*"
    statements = list(places(plan, "*"))
    if settings["role"] is None:
        statements.append(_allow(_ROLE, role))
        statements.append(_passing(role))
    else:
        role = f"arn:{partition(region)}:iam::*:role/*{settings['role']}"
        statements += [_allow(("iam:GetRole",), role), _passing(role)]
    statements += [
        _allow(_FUNCTION, arn("lambda", f"function:{MARK}-*")),
        _allow(_LISTING, "*"),
        _allow(_LOGS, [arn("logs", f"log-group:/aws/lambda/{MARK}-*{end}") for end in ("", ":*")]),
    ]
    bucket = settings["package_bucket"]
    if bucket is not None:
        held = f"arn:{partition(region)}:s3:::{bucket}"
        actions = ("s3:DeleteObject", "s3:GetObject", "s3:PutObject", "s3:PutObjectTagging")
        statements.append(_allow(actions, f"{held}/{PACKAGES}*"))
        statements.append(_allow(("s3:ListBucket",), held))
    if settings["secret"] is not None:
        statements.append(_allow(("secretsmanager:DescribeSecret",), _secret(settings, "*")))
    if settings["subnets"]:
        statements.append(_allow(_IN_VPC, "*"))
    return _document(statements)


def places(plan: Plan, account: str) -> Iterator[dict[str, Any]]:
    """Statements for the places of a plan, as far as AWS guards them: S3 and DynamoDB."""
    region = str(plan["settings"]["region"])
    for place in plan["places"]:
        url, reference = StorageURL.parse(str(place["url"])), Reference(**place["storage"])
        while reference.inner is not None:
            url, reference = url.inner(), reference.inner
        yield from _of_place(url, reference, region, account, writes=place.get("writes", True))


def _of_place(
    url: StorageURL, reference: Reference, region: str, account: str, *, writes: bool
) -> Iterator[dict[str, Any]]:
    its = str(reference.values.get("region") or region)
    if reference.name == "s3" and url.host.endswith("--x-s3"):
        bucket = f"arn:{partition(its)}:s3express:{its}:{account}:bucket/{url.host}"
        yield _allow(("s3express:CreateSession",), bucket)
    elif reference.name == "s3":
        bucket = f"arn:{partition(its)}:s3:::{url.host}"
        prefix = url.path.strip("/")
        yield _allow((*_READ, *(_WRITE if writes else ())), f"{bucket}/{prefix}/*" if prefix else f"{bucket}/*")
        yield _allow(("s3:ListBucket",), bucket)  # without it, S3 says of what is missing that it is denied
    elif reference.name == "dynamodb":
        actions = (*_TABLE_READ, *(_TABLE_WRITE if writes else ()))
        yield _allow(actions, _arns(its, account)("dynamodb", f"table/{url.host}"))


def partition(region: str) -> str:
    """The first word of ARNs: the part of AWS that a region is in."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _arns(region: str, account: str) -> Callable[[str, str], str]:
    return lambda service, resource: f"arn:{partition(region)}:{service}:{region}:{account}:{resource}"


def _secret(settings: Mapping[str, Any], account: str) -> str:
    """AWS adds a hyphen and six letters to a secret's name."""
    return _arns(str(settings["region"]), account)("secretsmanager", f"secret:{settings['secret']}-??????")


def _passing(role: str) -> dict[str, Any]:
    to = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    return _allow(("iam:PassRole",), role) | {"Condition": to}


def _allow(actions: Sequence[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": resource}


def _document(statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    once = [statement for at, statement in enumerate(statements) if statement not in statements[:at]]
    return {"Version": "2012-10-17", "Statement": once}
