"""The role of a function and its log group: made, or brought up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

from lambdaml_aws_lambda import policy
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import Taken, translated
from lambdaml_aws_lambda.names import BUCKET_TAG, FUNCTION_TAG, MARK, REGION_TAG, ROLE_PATH, RUN_TAG, log_group
from lambdaml_aws_lambda.shapes import Plan

POLICY = "lambdaml"
"""Name of the policy within a role."""


class Role(NamedTuple):
    """A role that functions can be given: its ARN, and whether it was made just now, so that AWS may not know it
    everywhere yet."""

    arn: str
    new: bool


def ensure_role(client: Client, plan: Plan, function: str, tags: Mapping[str, str]) -> Role:
    """The role that the job names; else one for the function alone, with the policy of its plan.

    Raises:
        NotThere: there is none of the name that the job gives.
        Taken: there is one of the function's name that LambdaML has not made.
        CloudDenied, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    named = plan["settings"]["role"]
    if named is not None:
        with translated(f"looking for the role {named}"):
            return Role(client.roles.get_role(RoleName=named)["Role"]["Arn"], new=False)
    role = _made(client, function, tags) or _found(client, function)
    account = role.arn.split(":")[4]
    document = json.dumps(policy.worker_policy(plan, function, account), separators=(",", ":"))
    with translated(f"giving the role {function} its policy"):
        client.roles.put_role_policy(RoleName=function, PolicyName=POLICY, PolicyDocument=document)
    return role


def _made(client: Client, function: str, tags: Mapping[str, str]) -> Role | None:
    """A new role; None where there is one of that name."""
    try:
        with translated(f"making the role {function}"):
            made = client.roles.create_role(
                Path=ROLE_PATH,
                RoleName=function,
                AssumeRolePolicyDocument=json.dumps(policy.TRUST),
                Description="of a function of LambdaML",
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
    except Taken:
        return None
    return Role(made["Role"]["Arn"], new=True)


def _found(client: Client, function: str) -> Role:
    with translated(f"looking for the role {function}"):
        found = client.roles.get_role(RoleName=function)["Role"]
    if found["Path"] != ROLE_PATH or MARK not in {tag["Key"] for tag in found.get("Tags", [])}:
        raise somebody_elses("role", function)
    return Role(found["Arn"], new=False)


def ensure_log_group(client: Client, plan: Plan, function: str, tags: Mapping[str, str]) -> None:
    """Make the log group of a function, where there is none, and have AWS keep what is in it for some days only.

    Raises:
        CloudDenied, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    name = log_group(function)
    try:
        with translated(f"making the log group {name}"):
            client.logs.create_log_group(logGroupName=name, tags=dict(tags))
    except Taken:
        pass  # it was made before
    with translated(f"setting how long the log group {name} is kept"):
        days = int(plan["settings"]["log_retention_days"])
        client.logs.put_retention_policy(logGroupName=name, retentionInDays=days)


def somebody_elses(kind: str, name: str) -> Taken:
    """The error for a name that is taken by what LambdaML has not made: it is left alone."""
    return Taken(f"there is a {kind} {name} that LambdaML has not made", hint="remove it, or name the job otherwise")


def version() -> str:
    """Value of the tag that everything has."""
    return metadata.version("lambdaml-aws-lambda")


def tags_of(plan: Plan, function: str) -> dict[str, str]:
    """The tags of everything that is made for a function."""
    tags = {MARK: version(), FUNCTION_TAG: function, REGION_TAG: plan["settings"]["region"]}
    if function == plan["function"]:
        tags[RUN_TAG] = function
    if plan["settings"]["package_bucket"] is not None:
        tags[BUCKET_TAG] = plan["settings"]["package_bucket"]
    return tags
