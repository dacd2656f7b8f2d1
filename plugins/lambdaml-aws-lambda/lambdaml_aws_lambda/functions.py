"""The function itself: made or updated in place, waited for, and asked whether it works."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import CloudError, NotThere, plain, translated
from lambdaml_aws_lambda.names import MARK, READY_TAG, package_key
from lambdaml_aws_lambda.package.archive import Package
from lambdaml_aws_lambda.package.build import DIRECT_BYTES
from lambdaml_aws_lambda.roles import Role, somebody_elses
from lambdaml_aws_lambda.secret import SECRET
from lambdaml_aws_lambda.shapes import ENTRY, Plan
from lambdaml_core.errors import OptionError, URLError

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

T = TypeVar("T")

HANDLER = "lambdaml_aws_lambda.handler.handle"
_ENVIRONMENT_BYTES = 4096
_KNOWN_S, _ACTIVE_S = 60.0, 300.0  # a role is known within seconds; an interface in a VPC takes a minute
_FIRST_S, _LONGEST_S = 0.1, 2.0  # of a pause
_RESERVED = ("AWS_", "LAMBDA_", "_")


def ensure_function(
    client: Client, plan: Plan, function: str, role: Role, package: Package, tags: Mapping[str, str]
) -> None:
    """Make the function, or bring what differs up to date; wait until it can be invoked.

    Raises:
        Taken: there is one of that name that LambdaML has not made.
        OptionError: its environment is too large.
        CloudDenied, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    settings = wanted(plan, role.arn)
    found = look(client, function)
    if found is None:
        _make(client, plan, function, package, settings, tags)
    else:
        if MARK not in function_tags(client, found["FunctionArn"]):
            raise somebody_elses("function", function)
        _update(client, plan, found, package, settings)
    wait_until_active(client, function)
    with translated(f"setting up the function {function}"):
        client.functions.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0)
        client.functions.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")
        reserved = plan["settings"]["reserved_concurrency"]
        if reserved is not None:
            client.functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=reserved)
        elif found is not None:  # it may have been cut off by a cancelled run
            client.functions.delete_function_concurrency(FunctionName=function)


def look(client: Client, function: str) -> FunctionConfigurationResponseTypeDef | None:
    """The configuration of a function; None where there is none."""
    try:
        with translated(f"looking for the function {function}"):
            return client.functions.get_function_configuration(FunctionName=function)
    except NotThere:
        return None


def names(client: Client) -> Iterator[str]:
    """All functions in the region whose names start as ours do, page after page."""
    with translated("listing the functions"):
        for page in client.functions.get_paginator("list_functions").paginate():
            found = (each["FunctionName"] for each in page["Functions"])
            yield from (name for name in found if name.startswith(f"{MARK}-"))


def function_tags(client: Client, arn: str) -> dict[str, str]:
    """Tags of a function."""
    with translated("reading the tags of a function"):
        return client.functions.list_tags(Resource=arn)["Tags"]


def wanted(plan: Plan, role_arn: str) -> dict[str, Any]:
    """The configuration of a function as requests have it."""
    settings = plan["settings"]
    return {
        "Role": role_arn,
        "Runtime": settings["runtime"],
        "Handler": HANDLER,
        "Timeout": settings["timeout_s"],
        "MemorySize": settings["memory_mb"],
        "EphemeralStorage": {"Size": settings["ephemeral_mb"]},
        "VpcConfig": {"SubnetIds": settings["subnets"], "SecurityGroupIds": settings["security_groups"]},
        "Environment": {"Variables": _variables(plan)},
    }


def differing(found: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that a function has otherwise. AWS leaves out a VPC that there is none of, and adds its name."""
    vpc = found.get("VpcConfig") or {}
    has = dict(found) | {
        "VpcConfig": {name: sorted(vpc.get(name, [])) for name in ("SubnetIds", "SecurityGroupIds")},
        "Environment": {"Variables": (found.get("Environment") or {}).get("Variables", {})},
    }
    same = {"VpcConfig": {name: sorted(ids) for name, ids in settings["VpcConfig"].items()}}
    return {name: value for name, value in settings.items() if has.get(name) != same.get(name, value)}


def code_sha256(package: Package) -> str:
    """The hash of a package as AWS Lambda writes it."""
    return base64.b64encode(bytes.fromhex(package.sha256)).decode()


def mark_ready(client: Client, function: str, package: Package) -> None:
    """Note that the function works with this package, for runs to come."""
    found = look(client, function)
    if found is None:
        raise NotThere(f"the function {function} is gone", hint="deploy it again")
    with translated(f"tagging the function {function}"):
        client.functions.tag_resource(Resource=found["FunctionArn"], Tags={READY_TAG: package.sha256})


def is_ready(client: Client, plan: Plan, package: Package) -> bool:
    """Whether the kept function of such jobs is there, works, and is what would be made now."""
    found = look(client, plan["kept"])
    if found is None or found.get("CodeSha256") != code_sha256(package):
        return False
    tags = function_tags(client, found["FunctionArn"])
    same = not differing(found, wanted(plan, found.get("Role", "")))
    return same and MARK in tags and tags.get(READY_TAG) == package.sha256


def wait_until_active(client: Client, function: str) -> None:
    """Wait until a new or changed function can be invoked.

    Raises:
        CloudError: AWS could not make it, and says why; or it takes too long.
    """
    give_up, pause_s = time.monotonic() + _ACTIVE_S, _FIRST_S
    while True:
        found: Mapping[str, Any] = look(client, function) or {}
        state, update = found.get("State"), found.get("LastUpdateStatus")
        if state == "Active" and update == "Successful":
            return
        if "Failed" in (state, update):
            reason = plain(found.get("StateReason") or found.get("LastUpdateStatusReason") or "AWS says no reason")
            raise CloudError(f"the function {function} cannot be made: {reason}", hint="mend that, and deploy it again")
        if time.monotonic() > give_up:
            raise CloudError(
                f"the function {function} is not ready after {_ACTIVE_S:g} s", hint="try again in a minute"
            )
        time.sleep(pause_s)
        pause_s = min(_LONGEST_S, 2 * pause_s)


def _make(
    client: Client, plan: Plan, function: str, package: Package, settings: Mapping[str, Any], tags: Mapping[str, str]
) -> None:
    architecture = plan["settings"]["architecture"]

    def create() -> None:
        with translated(f"making the function {function}"):
            client.functions.create_function(
                FunctionName=function,
                Description="Workers of LambdaML",
                Architectures=[architecture],
                Code=_code(plan, package),
                Tags=dict(tags),
                **settings,
            )

    _until_role_is_known(create)


def _update(
    client: Client, plan: Plan, found: Mapping[str, Any], package: Package, settings: Mapping[str, Any]
) -> None:
    function, architecture = found["FunctionName"], plan["settings"]["architecture"]
    if found.get("CodeSha256") != code_sha256(package) or found.get("Architectures") != [architecture]:
        wait_until_active(client, function)
        with translated(f"updating the code of the function {function}"):
            code = _code(plan, package)
            client.functions.update_function_code(FunctionName=function, Architectures=[architecture], **code)
    changes = differing(found, settings)
    if changes:
        wait_until_active(client, function)

        def change() -> None:
            with translated(f"updating the function {function}"):
                client.functions.update_function_configuration(FunctionName=function, **changes)

        _until_role_is_known(change)


def _code(plan: Plan, package: Package) -> Any:
    if package.zipped_bytes <= DIRECT_BYTES:
        return {"ZipFile": package.path.read_bytes()}
    return {"S3Bucket": plan["settings"]["package_bucket"], "S3Key": package_key(package.sha256)}


def _until_role_is_known(request: Callable[[], T]) -> T:
    """Make a request again as long as AWS Lambda does not know the role yet that IAM has just made."""
    give_up = time.monotonic() + _KNOWN_S
    while True:
        try:
            return request()
        except CloudError as e:
            waits = "cannot be assumed" in e.message or "role with name" in e.message
            if not waits or time.monotonic() > give_up:
                raise
        time.sleep(_LONGEST_S)


def _variables(plan: Plan) -> dict[str, str]:
    """The environment of the function.

    Raises:
        OptionError: it is larger than AWS takes, or a name is AWS's own.
        URLError: a value is not set here.
    """
    secret = plan["settings"]["secret"]
    variables = {**plan["settings"]["variables"], ENTRY: plan["entry"]}
    if secret is not None:
        variables[SECRET] = secret
    for name in plan["environment"] if secret is None else ():
        if name.startswith(_RESERVED):
            raise OptionError(
                f"{{env:{name}}} cannot be given to functions: the name is AWS's own",
                hint="name the variable otherwise",
            )
        if name not in os.environ:
            raise URLError(f"the environment variable {name} is not set", hint=f"export {name}=...")
        variables[name] = os.environ[name]
    if len(json.dumps(variables).encode()) > _ENVIRONMENT_BYTES:
        raise OptionError(
            "the values of {env:NAME} are more than the 4 KB of environment that AWS gives a function",
            hint="put them into AWS Secrets Manager, and name the secret by provider.secret",
        )
    return variables
