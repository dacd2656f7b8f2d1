"""Whether the account lets as many functions run at once as a job has workers."""

from __future__ import annotations

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import CloudQuota, translated
from lambdaml_aws_lambda.shapes import Plan

ASK = (
    'ask for more in the console, Service Quotas, AWS Lambda, "Concurrent executions": a new account may have 10 only; '
    "or use fewer workers"
)
"""What to do about a quota that is too low."""


def unreserved(client: Client) -> int:
    """How many invocations may run at once that no function has reserved.

    Raises:
        CloudDenied, CloudBusy, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    with translated("reading the quota of invocations at once"):
        return client.functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]


def check(client: Client, plan: Plan) -> None:
    """Refuse workers that could never run at once. What is to be reserved is refused by AWS, before anything runs.

    Raises:
        CloudQuota: too few invocations for the workers.
    """
    free, workers = unreserved(client), plan["workers"]
    if plan["settings"]["reserved_concurrency"] is None and workers > free:
        region = plan["settings"]["region"]
        raise CloudQuota(f"{workers} workers, and {free} functions may run at once in {region}", hint=ASK)
