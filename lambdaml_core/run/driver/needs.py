"""What a provider has to give workers so that they can do a job: code, and values of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lambdaml_core.run.code import module_names
from lambdaml_core.run.job import Job
from lambdaml_core.run.redact import names_in
from lambdaml_core.run.spec import ENTRY, Place, Spec
from lambdaml_core.specs import Reference


def job_for_provider(job: Job) -> dict[str, Any]:
    """What :meth:`~lambdaml_core.provider.base.Provider.plan` is given of a job that is new; no I/O.

    Raises:
        URLError, PluginError, OptionError: as :func:`~lambdaml_core.storage.storage_reference`.
    """
    plugins = (job.model, job.optimizer, job.communicator, job.provider)
    places = [Place.of(job.store), Place.of(job.channel or job.store, channel=True)]
    if job.data.source is not None and "://" in job.data.source:
        places.append(Place.of(job.data.source))
    return _with_needs(job.to_mapping(), plugins, places)


def run_for_provider(spec: Spec) -> dict[str, Any]:
    """The same of a run that goes on."""
    plugins = (spec.model, spec.optimizer, spec.pattern, spec.provider)
    return _with_needs(spec.job, plugins, (spec.store, spec.channel, spec.data))


def _with_needs(job: Mapping[str, Any], plugins: Iterable[Reference], places: Iterable[Place]) -> dict[str, Any]:
    places = tuple(places)
    references = [*plugins, *(place.reference for place in places)]
    modules = {"lambdaml_core"}.union(*(_modules(reference) for reference in references))
    modules.difference_update(module_names(job.get("code", ())))  # they travel with the run
    environment = names_in(place.url for place in places)
    return {**job, "entry": ENTRY, "modules": sorted(modules), "environment": environment}


def _modules(reference: Reference) -> Iterator[str]:
    """The top-level packages of a plugin, and of what it is a layer around."""
    for path in (reference.factory, reference.options):
        yield path.partition(":")[0].partition(".")[0]
    if reference.inner is not None:
        yield from _modules(reference.inner)
