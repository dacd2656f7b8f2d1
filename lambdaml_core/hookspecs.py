"""What a plugin can provide. A plugin module implements any of these with :data:`hookimpl`.

Each hook returns an iterable of records of :mod:`lambdaml_core.specs`; it must be quick and import nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from lambdaml_core.specs import (
    CommunicatorSpec,
    DataFormatSpec,
    ModelSpec,
    OptimizerSpec,
    ProviderSpec,
    StorageSpec,
)

GROUP = "lambdaml"
"""The entry-point group, and the name of the pluggy project."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def lambdaml_storages() -> Iterable[StorageSpec]:  # type: ignore[empty-body]
    """Storages, chosen by URL scheme."""


@hookspec
def lambdaml_communicators() -> Iterable[CommunicatorSpec]:  # type: ignore[empty-body]
    """Communication patterns, chosen by name."""


@hookspec
def lambdaml_optimizers() -> Iterable[OptimizerSpec]:  # type: ignore[empty-body]
    """Optimizers, chosen by name."""


@hookspec
def lambdaml_providers() -> Iterable[ProviderSpec]:  # type: ignore[empty-body]
    """Providers, chosen by name."""


@hookspec
def lambdaml_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Models, chosen by name."""


@hookspec
def lambdaml_data_formats() -> Iterable[DataFormatSpec]:  # type: ignore[empty-body]
    """Readers of data files, chosen by name or by the ending of a file's name."""


@hookspec
def lambdaml_run_event(event: Mapping[str, Any]) -> None:
    """Observe a run: called in the driver with each event, a JSON object with ``event``, ``run`` and ``time_s``.

    An observer's exception is reported once and never ends a run.
    """
