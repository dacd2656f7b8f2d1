"""boto3's clients of one region, each made at its first use; threads may share them."""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from lambdaml_aws_lambda.failures import translated
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_core.errors import OptionError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient

_CONNECT_S, _READ_S = 5.0, 60.0
_TRIES = 5
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")


class Client:
    """Clients by service, with time-outs and boto3's standard retries.

    Args:
        tries: of a request; 1 for who tries again by itself.

    Raises:
        CloudDenied: there is no such profile.
        OptionError: no region is named, or what is named is none.
    """

    def __init__(self, options: AwsLambdaOptions, *, tries: int = _TRIES) -> None:
        self._options, self._tries = options, tries
        with translated("reading the AWS configuration"):
            self._session = boto3.Session(profile_name=options.profile)
        self.region = _checked(options.region or os.environ.get("AWS_REGION") or self._session.region_name)

    def credentials(self) -> str | None:
        """Where boto3 finds credentials, in its words; None = nowhere."""
        with translated("reading the AWS credentials"):
            found = self._session.get_credentials()
        return None if found is None else str(found.method)

    def is_known(self) -> bool:
        """Whether boto3 knows AWS Lambda in this region."""
        partitions = self._session.get_available_partitions()
        return any(self.region in self._session.get_available_regions("lambda", name) for name in partitions)

    @cached_property
    def functions(self) -> LambdaClient:
        """Of AWS Lambda."""
        client: LambdaClient = self._make("lambda")
        return client

    @cached_property
    def roles(self) -> IAMClient:
        """Of IAM."""
        client: IAMClient = self._make("iam")
        return client

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """Of CloudWatch Logs."""
        client: CloudWatchLogsClient = self._make("logs")
        return client

    @cached_property
    def objects(self) -> S3Client:
        """Of S3, for packages."""
        client: S3Client = self._make("s3")
        return client

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """Of Secrets Manager."""
        client: SecretsManagerClient = self._make("secretsmanager")
        return client

    @cached_property
    def networks(self) -> EC2Client:
        """Of EC2, for what a VPC has."""
        client: EC2Client = self._make("ec2")
        return client

    def _make(self, service: str) -> Any:
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "total_max_attempts": self._tries},
            max_pool_connections=16,
            s3={"addressing_style": "path" if self._options.endpoint_url else "auto"},
        )
        with translated("reading the AWS configuration"):
            session: Any = self._session  # whose stubs know literal names only
            return session.client(
                service, region_name=self.region, endpoint_url=self._options.endpoint_url, config=config
            )


def _checked(region: str | None) -> str:
    if region is None:
        raise OptionError(
            "provider.region is not given, and the AWS configuration names none",
            hint="set provider.region, such as us-east-1, or AWS_REGION",
        )
    if not _REGION.fullmatch(region):
        raise OptionError(f"provider.region: {region!r} is no region", hint="write one such as us-east-1")
    return region
