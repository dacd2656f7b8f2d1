"""What ``lambdaml doctor`` looks at in AWS: credentials, quota, role, kept functions, and what a VPC lacks.

What a VPC lacks depends on what is used from it, which the options of the provider do not say: so each service that
functions may need is looked for, and only the way to Lambda itself, which every run needs, is a problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from lambdaml_aws_lambda import functions, quotas, vpc
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import translated
from lambdaml_aws_lambda.names import KEPT
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.findings import Finding

_FEW = 100  # invocations at once; new accounts may have 10


def checks(options: AwsLambdaOptions) -> Iterator[Finding]:
    """Look, and change nothing."""
    try:
        client = Client(options)
        yield _credentials(client)
        yield _quota(client)
    except LambdaMLError as e:
        yield problem("access", e)  # all that follows would say the same
        return
    for look in (_role, _secret, _recursion, vpc.checks):
        try:
            yield from look(client, options)
        except LambdaMLError as e:
            yield problem("vpc" if look is vpc.checks else look.__name__.strip("_"), e)


def problem(what: str, error: LambdaMLError) -> Finding:
    """An error as a finding."""
    remedy = error.hint or "see the table [provider] of the job and the AWS configuration"
    return Finding(what=what, state="problem", said=error.message, remedy=remedy)


def _credentials(client: Client) -> Finding:
    found = client.credentials()
    if found is None:
        return Finding(
            what="credentials",
            state="problem",
            said="there are no AWS credentials",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or give the machine a role",
        )
    return Finding(what="credentials", state="ok", said=f"found by the way {found} of boto3, for {client.region}")


def _quota(client: Client) -> Finding:
    free = quotas.unreserved(client)
    said, values = f"{free} functions may run at once in {client.region}", {"concurrent": free}
    if free < _FEW:
        return Finding(what="quota", state="warning", said=said, remedy=quotas.ASK, values=values)
    return Finding(what="quota", state="ok", said=said, values=values)


def _role(client: Client, options: AwsLambdaOptions) -> Iterator[Finding]:
    if options.role is None:
        return
    with translated(f"looking for the role {options.role}"):
        trust: Any = client.roles.get_role(RoleName=options.role)["Role"]["AssumeRolePolicyDocument"]
    if any(_trusts_lambda(statement) for statement in trust.get("Statement", [])):
        yield Finding(what="role", state="ok", said=f"{options.role} is there, and functions may have it")
    else:
        yield Finding(
            what="role",
            state="problem",
            said=f"functions may not have the role {options.role}",
            remedy="let lambda.amazonaws.com assume it (sts:AssumeRole), in the role's trust policy",
        )


def _trusts_lambda(statement: Mapping[str, Any]) -> bool:
    services = statement.get("Principal", {}).get("Service", [])
    return statement.get("Effect") == "Allow" and "lambda.amazonaws.com" in (
        [services] if isinstance(services, str) else services
    )


def _secret(client: Client, options: AwsLambdaOptions) -> Iterator[Finding]:
    if options.secret is None:
        return
    with translated(f"looking for the secret {options.secret}"):
        client.secrets.describe_secret(SecretId=options.secret)
    yield Finding(what="secret", state="ok", said=f"{options.secret} is there")


def _recursion(client: Client, options: AwsLambdaOptions) -> Iterator[Finding]:
    """Of functions that were kept: AWS ends a chain of some 16 successors unless it is told not to."""
    for name in functions.names(client):
        if not name.startswith(KEPT):
            continue
        with translated(f"looking at the function {name}"):
            setting = client.functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"]
        if setting != "Allow":
            yield Finding(
                what="recursion",
                state="problem",
                said=f"AWS would end the successors of {name}: its recursive loop detection is {setting}",
                remedy=f"aws lambda put-function-recursion-config --function-name {name} --recursive-loop Allow",
                fix=partial(_allow, client, name),
            )


def _allow(client: Client, name: str) -> None:
    with translated(f"setting up the function {name}"):
        client.functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
