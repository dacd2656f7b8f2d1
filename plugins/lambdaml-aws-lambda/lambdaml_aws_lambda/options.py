"""Options of the provider ``aws-lambda``, apart from ``plugin.py``: workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class AwsLambdaOptions:
    """The table ``[provider]`` of a job with ``name = "aws-lambda"``. Names, never ARNs: those hold account numbers."""

    region: str | None = option(None, help="region of the functions; left out, as the AWS configuration says")
    profile: str | None = option(None, help="profile of the AWS configuration whose credentials are used")
    endpoint_url: str | None = option(None, help="http(s)://host:port of what answers in place of AWS")
    memory_mb: int = option(
        1769, help="memory of a function; its share of processors grows with it", unit="MB", minimum=128, maximum=10_240
    )
    ephemeral_mb: int = option(512, help="room in /tmp", unit="MB", minimum=512, maximum=10_240)
    max_duration_s: float = option(900.0, help="how long one invocation may run", unit="s", minimum=1, maximum=900)
    architecture: str = option("x86_64", help="processors", choices=("x86_64", "arm64"))
    runtime: str | None = option(
        None, help="python3.11 to python3.14, or provided.al2023; default: that of the Python that launches"
    )
    role: str | None = option(None, help="name of the role that functions have; left out, one is made for them")
    package_bucket: str | None = option(
        None, help="bucket for packages above 50 MB; default: that of the store, where it is s3://"
    )
    requirements: tuple[str, ...] = option(
        (), help='more to put into the package, such as ["pandas==2.2.3"], for code of your own'
    )
    reserved_concurrency: int | None = option(None, help="invocations kept free for the function", minimum=1)
    subnets: tuple[str, ...] = option((), help="of a VPC, where a cache is to be reached")
    security_groups: tuple[str, ...] = option((), help="of the function in that VPC")
    log_retention_days: int = option(7, help="how long AWS keeps what workers print", unit="days", minimum=1)
    secret: str | None = option(
        None,
        help="name in AWS Secrets Manager of a JSON object with the values of {env:NAME}; left out, the function "
        "gets them in its environment",
    )
