"""Makes a function and what it needs, or brings it up to date: idempotent, and asked whether it works before use."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlencode

from lambdaml_aws_lambda import quotas, removing
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import NotThere, translated
from lambdaml_aws_lambda.functions import ensure_function, is_ready, mark_ready
from lambdaml_aws_lambda.names import MARK, package_key
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.package.archive import Package
from lambdaml_aws_lambda.package.build import DIRECT_BYTES, build
from lambdaml_aws_lambda.package.contents import contents
from lambdaml_aws_lambda.probing import probe
from lambdaml_aws_lambda.roles import ensure_log_group, ensure_role, tags_of, version
from lambdaml_aws_lambda.shapes import Deployment, Plan
from lambdaml_core.errors import LambdaMLError, NotSupported

_SETTLES_S = 30.0  # what a new role allows is known everywhere within seconds


def deploy(options: AwsLambdaOptions, plan: Plan, *, keep: bool) -> Deployment:
    """Make the function of a run, or one for runs to come.

    Args:
        keep: make it for all runs of such jobs; a run that finds one uses it, if it is what would be made now.

    Raises:
        CloudQuota: fewer invocations may run at once than there are workers.
        NotSupported: the package is too large.
        WorkerFailed: the function does not work; says why.
        CloudDenied, CloudBusy, Taken, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    client = Client(options)
    package = package_of(plan)  # before any call: one that is too large is refused without
    quotas.check(client, plan)
    return deploy_package(client, plan, package, keep=keep)


def package_of(plan: Plan) -> Package:
    """Build the package of a plan, or find it built."""
    settings = plan["settings"]
    target = {"runtime": settings["runtime"], "architecture": settings["architecture"]}
    return build(contents(list(plan["modules"]), settings["requirements"], **target), **target)


def deploy_package(
    client: Client, plan: Plan, package: Package, *, keep: bool, settles_s: float = _SETTLES_S
) -> Deployment:
    """:func:`deploy` with a package that is there.

    Args:
        settles_s: how long a new role may be refused what its policy allows.
    """
    region = str(plan["settings"]["region"])
    if not keep and is_ready(client, plan, package):
        return Deployment(function=plan["kept"], region=region, made={})
    function = plan["kept"] if keep else plan["function"]
    made = Deployment(function=function, region=region, made=_made(plan, function, package))
    try:
        _make(client, plan, function, package, settles_s)
    except BaseException:
        if not keep:  # what is kept is completed by the next deploy
            with contextlib.suppress(LambdaMLError):  # the first error is the one to tell
                removing.remove_made(client, made["made"])
        raise
    return Deployment(function=function, region=region, made={}) if keep else made


def _make(client: Client, plan: Plan, function: str, package: Package, settles_s: float) -> None:
    tags = tags_of(plan, function)
    role = ensure_role(client, plan, function, tags)
    ensure_log_group(client, plan, function, tags)
    if package.zipped_bytes > DIRECT_BYTES:
        _upload(client, plan, package)
    ensure_function(client, plan, function, role, package, tags)
    probe(client, plan, function, settles_s if role.new else 0.0)
    mark_ready(client, function, package)


def _made(plan: Plan, function: str, package: Package) -> dict[str, Any]:
    made: dict[str, Any] = {"function": function, "log_group": function}
    if plan["settings"]["role"] is None:
        made["role"] = function
    if package.zipped_bytes > DIRECT_BYTES:
        made["package"] = {"bucket": plan["settings"]["package_bucket"], "key": package_key(package.sha256)}
    return made


def _upload(client: Client, plan: Plan, package: Package) -> None:
    """Put the package where AWS Lambda fetches it, unless it is there."""
    bucket, key = plan["settings"]["package_bucket"], package_key(package.sha256)
    if bucket is None:
        raise NotSupported(
            f"the package has {package.zipped_bytes / 2**20:.0f} MB, and AWS takes 50 MB with a request",
            hint="name a bucket for it by provider.package_bucket",
        )
    try:
        with translated(f"looking for the package in the bucket {bucket}"):
            client.objects.head_object(Bucket=bucket, Key=key)
            return
    except NotThere:
        pass
    mark = urlencode({MARK: version()})  # of no function: equal packages are one
    with translated(f"uploading the package to the bucket {bucket}"), package.path.open("rb") as file:
        client.objects.put_object(Bucket=bucket, Key=key, Body=file, Tagging=mark)
