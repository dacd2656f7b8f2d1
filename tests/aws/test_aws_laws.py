"""All laws of a provider, on functions of the stand-in."""

from __future__ import annotations

import pytest

from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.provider import AwsLambdaProvider
from lambdaml_aws_lambda.testing import AwsServer
from lambdaml_core.testing.provider import ProviderLaws


class TestLaws(ProviderLaws):
    cancels = False
    patience_s = 120.0
    logs_s = 120.0  # the stand-in shows lines when an invocation has ended, and its process may not have begun yet

    @pytest.fixture
    def provider(self, aws: AwsServer) -> AwsLambdaProvider:
        return AwsLambdaProvider(AwsLambdaOptions(memory_mb=512, **aws.options))

    @pytest.fixture
    def store(self, aws: AwsServer) -> str:
        return aws.url
