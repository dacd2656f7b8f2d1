"""Deployments that outlive runs: made for the jobs to come, and removed when somebody says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdaml_core.errors import NotSupported
from lambdaml_core.provider.base import Provider, Removed, SupportsDeployments
from lambdaml_core.run.driver.plan import make_plan
from lambdaml_core.run.job import Job
from lambdaml_core.specs import Reference


def deploy_job(job: Job) -> Mapping[str, Any]:
    """Make what runs of this job, and of those like it, are to use; what differs is updated in place.

    Returns:
        The deployment, as the provider describes it.

    Raises:
        NotSupported: the provider keeps none.
        UsageError: the job cannot work; as :func:`~lambdaml_core.run.driver.plan.make_plan`.
    """
    provider = _keeping(job.provider)
    return provider.keep(make_plan(job).provider_plan)


def teardown_job(job: Job) -> Removed:
    """Remove what :func:`deploy_job` has made for such a job. Raises as it does."""
    provider = _keeping(job.provider)
    return provider.remove(make_plan(job).provider_plan)


def teardown_all(provider: Reference) -> Removed:
    """Remove all that this provider has ever made in the place that its options name, also for runs that lost their
    driver.

    Raises:
        NotSupported: the provider keeps no deployments.
    """
    return _keeping(provider).remove(None)


def _keeping(reference: Reference) -> SupportsDeployments:
    provider: Provider = reference.build()
    if not isinstance(provider, SupportsDeployments):
        raise NotSupported(
            f"the provider {reference.name} keeps no deployments",
            hint="there is nothing to deploy and nothing to tear down: lambdaml train makes what a run needs",
        )
    return provider
