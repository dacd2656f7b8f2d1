"""The plan: what would be made for a job, without asking anybody."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lambdaml_aws_lambda import policy, prices
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.names import check, function_kept, function_of_run, log_group
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.package.build import about
from lambdaml_aws_lambda.package.contents import contents
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_core.errors import OptionError
from lambdaml_core.provider.baseline import baseline
from lambdaml_core.storage import StorageURL, storage_reference

_START_S = 3.0  # of a new function: its code is fetched, and numpy and the job's plugins are imported
_RETENTION = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


def make_plan(options: AwsLambdaOptions, job: Mapping[str, Any]) -> Plan:
    """What would be made. It reads this environment and the AWS configuration.

    Args:
        job: as of :meth:`~lambdaml_core.provider.base.Provider.plan`.

    Raises:
        OptionError: an option is wrong, or does not go with another.
        NotSupported: what workers need is not installed here, or is more than a function takes.
    """
    settings = _settings(options, job)
    target = {"runtime": settings["runtime"], "architecture": settings["architecture"]}
    held = contents(list(job["modules"]), options.requirements, **target)
    package = about(held, **target)
    plan = Plan(
        scope="network",
        max_duration_s=options.max_duration_s,
        usd_per_worker_s=prices.usd_per_worker_s(
            settings["region"],
            memory_mb=options.memory_mb,
            ephemeral_mb=options.ephemeral_mb,
            architecture=options.architecture,
        ),
        usd_per_launch=prices.prices(settings["region"]).request,
        usd_per_log_byte=prices.prices(settings["region"]).log_byte,
        start_s=_START_S,
        resources=(),
        permissions={},
        facts={},
        entry=str(job["entry"]),
        function=function_of_run(job.get("name")),
        kept="",
        settings=settings,
        distributions=dict(held.distributions),
        modules=list(job["modules"]),
        places=list(_places(job)),
        environment=list(job["environment"]),
        workers=int(job["workers"]),
    )
    made_with = (settings, plan["distributions"], plan["modules"], plan["environment"])
    guarded = list(policy.places(plan, "*"))
    plan["kept"] = function_kept({"made_with": made_with, "entry": plan["entry"], "places": guarded})
    plan["resources"] = list(_resources(plan))
    plan["permissions"] = {"user": policy.user_policy(plan), "worker": policy.worker_policy(plan, plan["function"])}
    plan["facts"] = {"package": str(package), **_facts(plan)}
    return plan


def _settings(options: AwsLambdaOptions, job: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("role", "package_bucket", "secret"):
        value = getattr(options, name)
        if value is not None:
            check(name, value)
    for name in ("subnets", "security_groups"):
        for value in getattr(options, name):
            check(name, value)
    if bool(options.subnets) != bool(options.security_groups):
        raise OptionError(
            "provider.subnets and provider.security_groups are given together or not at all",
            hint="a function in a VPC needs both",
        )
    if options.log_retention_days not in _RETENTION:
        near = min(_RETENTION, key=lambda days: abs(days - options.log_retention_days))
        raise OptionError(
            f"provider.log_retention_days: CloudWatch Logs knows no {options.log_retention_days}", hint=f"say {near}"
        )
    reserved = options.reserved_concurrency
    if reserved is not None and reserved < job["workers"]:
        raise OptionError(
            f"provider.reserved_concurrency: {reserved} invocations are less than {job['workers']} workers",
            hint=f"say {job['workers']} or more, or leave it out",
        )
    return {
        "region": _region(options),
        "memory_mb": options.memory_mb,
        "ephemeral_mb": options.ephemeral_mb,
        "timeout_s": math.ceil(options.max_duration_s),
        "architecture": options.architecture,
        "runtime": options.runtime or f"python{sys.version_info.major}.{sys.version_info.minor}",
        "role": options.role,
        "subnets": list(options.subnets),
        "security_groups": list(options.security_groups),
        "log_retention_days": options.log_retention_days,
        "secret": options.secret,
        "reserved_concurrency": reserved,
        "requirements": list(options.requirements),
        "package_bucket": options.package_bucket or _bucket_of(str(job["store"])),
        "variables": dict(baseline(options.architecture)),
    }


def _region(options: AwsLambdaOptions) -> str:
    client = Client(options)
    if options.endpoint_url is None and not client.is_known():
        raise OptionError(
            f"provider.region: there is no region {client.region} of AWS Lambda that this boto3 knows",
            hint="write one such as us-east-1; if it is new, pip install --upgrade boto3",
        )
    return client.region


def _bucket_of(store: str) -> str | None:
    """The bucket of a store on S3, under whatever layers; those of S3 Express take no packages."""
    url = StorageURL.parse(store)
    on_s3 = url.scheme.rpartition("+")[2] == "s3" and not url.host.endswith("--x-s3")
    return check("package_bucket", url.host) if on_s3 else None


def _places(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Store, channel and data, each URL once; workers write to the first two only."""
    written = dict.fromkeys(filter(None, (job["store"], job.get("channel"))))
    source = job.get("data", {}).get("source") or ""
    urls = {**({source: False} if "://" in source else {}), **dict.fromkeys(written, True)}
    for url, writes in urls.items():
        yield {"url": url, "storage": dataclasses.asdict(storage_reference(url)), "writes": writes}


def _resources(plan: Plan) -> Iterator[str]:
    settings, function = plan["settings"], plan["function"]
    if settings["role"] is None:
        yield f"role {function}"
    yield f"log group {log_group(function)}, kept {settings['log_retention_days']} days"
    yield (
        f"function {function} in {settings['region']}: {settings['memory_mb']} MB, {settings['runtime']}, "
        f"{settings['architecture']}, {settings['timeout_s']} s, {settings['ephemeral_mb']} MB in /tmp"
    )


def _facts(plan: Plan) -> dict[str, str]:
    return {
        "prices": prices.said(str(plan["settings"]["region"])),
        "kept function": plan["kept"],
    }
