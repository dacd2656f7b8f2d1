"""The laws of a provider. They tell a plugin author whether LambdaML can run its workers there, and what to fix.

A complete test file::

    class TestAcmeProvider(ProviderLaws):
        @pytest.fixture
        def provider(self):
            return AcmeProvider(AcmeOptions(region="mars-north-1"))

        @pytest.fixture
        def store(self, bucket):  # only where workers run on other machines: what they reach from there
            return f"s3://{bucket}/laws"

The workers are real ones: what runs is what a driver has a provider run, and what is looked at are the records that
workers write to the store. So a law asks nothing of a provider that a run does not. What a provider cannot do (look at
a worker, kill it, read its log) is skipped, and pytest says so; what ends and hands over is judged by signs of life.

``ProviderPlanLaws`` are those that start nothing and call nobody; they need no account.
"""

from __future__ import annotations

from lambdaml_core.testing.provider_laws.launching import LaunchLaws
from lambdaml_core.testing.provider_laws.planning import PlanLaws
from lambdaml_core.testing.provider_laws.running import RunLaws
from lambdaml_core.testing.provider_laws.watching import WatchLaws

__all__ = ["ProviderLaws", "ProviderPlanLaws"]


class ProviderPlanLaws(PlanLaws):
    """The laws of what is said before anything is started. Override the fixture ``provider``."""


class ProviderLaws(RunLaws, WatchLaws, LaunchLaws, ProviderPlanLaws):  # run in the opposite order
    """All laws of a provider: workers are started, and may cost money. Override the fixture ``provider``, and
    ``store`` where workers run on other machines; ``patience_s`` where they start slowly."""

    limit_s = 300.0
