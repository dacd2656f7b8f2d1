"""Removes what was made: of one run, of what was kept for one plan, or all that has our tag. Idempotent.

What has not our tag is somebody else's, and is left alone, whatever it is called.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lambdaml_aws_lambda import functions
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import NotThere, translated
from lambdaml_aws_lambda.names import (
    BUCKET_TAG,
    MARK,
    PACKAGES,
    REGION_TAG,
    ROLE_PATH,
    check,
    check_ours,
    check_package,
    is_package,
    log_group,
    package_key,
)
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.roles import POLICY
from lambdaml_aws_lambda.shapes import Deployment, Plan
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.provider.base import Removed


def remove(options: AwsLambdaOptions, deployment: Deployment) -> Sequence[str]:
    """Remove what was made for one run. Returns what had to be left, a line each, and why.

    Raises:
        OptionError: the deployment names what LambdaML never makes.
    """
    return remove_made(Client(options), deployment["made"]).left


def remove_kept(options: AwsLambdaOptions, plan: Plan) -> Removed:
    """Remove what was kept for jobs of this plan."""
    client, function = Client(options), plan["kept"]
    made: dict[str, Any] = {"function": function, "role": function, "log_group": function}
    found, bucket = functions.look(client, function), plan["settings"]["package_bucket"]
    if found is not None and bucket is not None:
        sha256 = base64.b64decode(found["CodeSha256"]).hex()
        made["package"] = {"bucket": bucket, "key": package_key(sha256)}
    return remove_made(client, made)


def remove_all(options: AwsLambdaOptions) -> Removed:
    """Remove whatever has our tag in the region of the options: what runs have left, too."""
    client = Client(options)
    remover = _Remover(client)
    for name in remover.each("functions", functions.names(client)):
        remover.function(name)
    for name in remover.each("roles", _roles(client)):
        remover.role(name)
    for name in remover.each("log groups", _log_groups(client)):
        remover.log_group(name)
    buckets = sorted(remover.buckets | ({options.package_bucket} if options.package_bucket else set()))
    for bucket in buckets:
        for key in remover.each(f"packages in the bucket {bucket}", _packages(client, bucket)):
            remover.package(bucket, key)
    return remover.result()


def remove_made(client: Client, made: Mapping[str, Any]) -> Removed:
    """Remove what a deployment says was made.

    Raises:
        OptionError: it names what LambdaML never makes.
    """
    remover = _Remover(client)
    if "function" in made:
        remover.function(check_ours(made["function"]))
    if "role" in made:
        remover.role(check_ours(made["role"]))
    if "log_group" in made:
        remover.log_group(log_group(check_ours(made["log_group"])))
    if "package" in made:
        remover.package(check("package_bucket", made["package"]["bucket"]), check_package(made["package"]["key"]))
    return remover.result()


class _Remover:
    """Removes one thing after another, and notes what became of each: what cannot be removed keeps nothing else.

    Attributes:
        buckets: where packages of what it has met may be.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._removed: list[str] = []
        self._left: list[str] = []
        self.buckets: set[str] = set()

    def result(self) -> Removed:
        return Removed(self._removed, self._left)

    def each(self, what: str, names: Iterator[str]) -> Sequence[str]:
        """All names of a listing, page after page; what cannot be listed is left."""
        found: list[str] = []
        self._note(what, lambda: found.extend(names), quiet=True)
        return found

    def function(self, name: str) -> None:
        def go() -> None:
            with translated(f"looking for the function {name}"):
                arn = self._client.functions.get_function_configuration(FunctionName=name)["FunctionArn"]
            self._check(functions.function_tags(self._client, arn))
            with translated(f"removing the function {name}"):
                self._client.functions.delete_function(FunctionName=name)

        self._note(f"function {name}", go)

    def role(self, name: str) -> None:
        def go() -> None:
            roles = self._client.roles
            with translated(f"looking for the role {name}"):
                tags = roles.get_role(RoleName=name)["Role"].get("Tags", [])
            self._check({tag["Key"]: tag["Value"] for tag in tags})
            try:
                with translated(f"removing the policy of the role {name}"):
                    roles.delete_role_policy(RoleName=name, PolicyName=POLICY)
            except NotThere:
                pass  # a deploy was interrupted before it had one
            with translated(f"removing the role {name}"):
                roles.delete_role(RoleName=name)

        self._note(f"role {name}", go)

    def log_group(self, name: str) -> None:
        def go() -> None:
            logs = self._client.logs
            with translated(f"looking for the log group {name}"):
                groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            found = [group["arn"] for group in groups if group["logGroupName"] == name]
            if not found:
                raise _Nothing
            with translated(f"reading the tags of the log group {name}"):
                arn = found[0].removesuffix(":*")
                tags = logs.list_tags_for_resource(resourceArn=arn).get("tags", {})
            self._check(tags)
            with translated(f"removing the log group {name}"):
                logs.delete_log_group(logGroupName=name)

        self._note(f"log group {name}", go)

    def package(self, bucket: str, key: str) -> None:
        def go() -> None:
            if key in self._in_use():
                raise _Nothing
            with translated(f"removing the package {key} from the bucket {bucket}"):
                self._client.objects.head_object(Bucket=bucket, Key=key)
                self._client.objects.delete_object(Bucket=bucket, Key=key)

        self._note(f"package {key} in the bucket {bucket}", go)

    def _in_use(self) -> set[str]:
        """Keys of packages that functions are made of now: equal ones are one object, whoever has made it."""
        with translated("listing the functions"):
            pages = self._client.functions.get_paginator("list_functions").paginate()
            hashes = [found["CodeSha256"] for page in pages for found in page["Functions"] if found.get("CodeSha256")]
        return {package_key(base64.b64decode(sha256).hex()) for sha256 in hashes}

    def _check(self, tags: Mapping[str, str]) -> None:
        """Ours, and of this region: roles are of none, and one of a function elsewhere is needed there."""
        if MARK not in tags or tags.get(REGION_TAG) != self._client.region:
            raise _Nothing
        if BUCKET_TAG in tags:
            self.buckets.add(check("package_bucket", tags[BUCKET_TAG]))

    def _note(self, what: str, go: Callable[[], None], *, quiet: bool = False) -> None:
        try:
            go()
        except (NotThere, _Nothing):
            return
        except LambdaMLError as e:
            self._left.append(f"{what}: {e.message}")
            return
        if not quiet:
            self._removed.append(what)


class _Nothing(Exception):
    """There is nothing to remove: it is not there, or not ours."""


def _roles(client: Client) -> Iterator[str]:
    with translated("listing the roles"):
        for page in client.roles.get_paginator("list_roles").paginate(PathPrefix=ROLE_PATH):
            yield from (role["RoleName"] for role in page["Roles"])


def _log_groups(client: Client) -> Iterator[str]:
    with translated("listing the log groups"):
        pages = client.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=log_group(f"{MARK}-"))
        for page in pages:
            yield from (group["logGroupName"] for group in page["logGroups"])


def _packages(client: Client, bucket: str) -> Iterator[str]:
    with translated(f"listing the packages in the bucket {bucket}"):
        for page in client.objects.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PACKAGES):
            yield from (found["Key"] for found in page.get("Contents", []) if is_package(found["Key"]))
