"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import ProviderSpec

LAMBDAML_API = 0


@hookimpl
def lambdaml_providers() -> Iterator[ProviderSpec]:
    """The provider ``aws-lambda``."""
    yield ProviderSpec(
        name="aws-lambda",
        factory="lambdaml_aws_lambda.provider:AwsLambdaProvider",
        options=AwsLambdaOptions,
        summary="A function of AWS Lambda per worker",
    )
