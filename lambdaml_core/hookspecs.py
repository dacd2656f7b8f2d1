"""What a plugin can provide. A plugin module implements any of these with :data:`hookimpl`.

The hooks that give records take nothing. They are called once in each process, at the first look-up of anything, one
plugin after another, so they must be quick and import nothing heavy. What one raises, or a record that cannot be used,
takes its plugin out of use and no other: ``lambdaml plugins`` shows it with a remedy, and it is raised as
:class:`~lambdaml_core.errors.PluginBroken` where something of the plugin is asked for.
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
    StorageLayerSpec,
    StorageSpec,
)

GROUP = "lambdaml"
"""The entry-point group, and the name of the pluggy project."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def lambdaml_storages() -> Iterable[StorageSpec]:  # type: ignore[empty-body]
    """Storages, chosen by URL scheme.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(url, options)`` and makes a
        :class:`~lambdaml_core.storage.base.Storage`; the example is chosen by ``acme://host/path``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import StorageSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_storages():
            yield StorageSpec(
                name="acme",
                schemes=("acme",),
                factory="lambdaml_acme.storage:AcmeStorage",
                summary="values in Acme",
            )
    """


@hookspec
def lambdaml_storage_layers() -> Iterable[StorageLayerSpec]:  # type: ignore[empty-body]
    """Storages around others, chosen by ``NAME+`` before a URL.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(url, options, inner)``, ``inner`` the
        :class:`~lambdaml_core.specs.Reference` of the storage within; the example is chosen by ``zip+file:///path``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import StorageLayerSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_storage_layers():
            yield StorageLayerSpec(
                name="zip",
                factory="lambdaml_acme.zip:ZipStorage",
                summary="values compressed in any storage",
            )
    """


@hookspec
def lambdaml_communicators() -> Iterable[CommunicatorSpec]:  # type: ignore[empty-body]
    """Communication patterns, chosen by name.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records that name a :data:`~lambdaml_core.comm.base.Pattern`; the example is
        chosen by ``communicator = "gossip"``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import CommunicatorSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_communicators():
            yield CommunicatorSpec(
                name="gossip",
                factory="lambdaml_acme.patterns:gossip",
                summary="every rank asks two others",
            )
    """


@hookspec
def lambdaml_optimizers() -> Iterable[OptimizerSpec]:  # type: ignore[empty-body]
    """Optimizers, chosen by name.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(options)`` and makes an
        :class:`~lambdaml_core.optim.base.Optimizer`; the example is chosen by ``optimizer = "adagrad"``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import OptimizerSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_optimizers():
            yield OptimizerSpec(
                name="adagrad",
                factory="lambdaml_acme.adagrad:Adagrad",
                summary="a step size for each parameter",
            )
    """


@hookspec
def lambdaml_providers() -> Iterable[ProviderSpec]:  # type: ignore[empty-body]
    """Providers, chosen by name.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(options)`` and makes a
        :class:`~lambdaml_core.provider.base.Provider`; the example is chosen by ``provider = "acme-functions"``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import ProviderSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_providers():
            yield ProviderSpec(
                name="acme-functions",
                factory="lambdaml_acme.functions:AcmeFunctions",
                summary="workers as functions of Acme",
            )
    """


@hookspec
def lambdaml_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Models, chosen by name.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(options)`` and makes a
        :class:`~lambdaml_core.models.base.Model`; the example is chosen by ``model = "huber"``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import ModelSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_models():
            yield ModelSpec(
                name="huber",
                factory="lambdaml_acme.huber:Huber",
                target="number",
                summary="regression that outliers move little",
            )
    """


@hookspec
def lambdaml_data_formats() -> Iterable[DataFormatSpec]:  # type: ignore[empty-body]
    """Readers of data files, chosen by name or by the ending of a file's name.

    Called: once in each process, at the first look-up.

    Returns:
        an iterable of records whose factory is called as ``factory(options)`` and makes a
        :class:`~lambdaml_core.data.formats.RowFormat` or :class:`~lambdaml_core.data.formats.TableFormat`; the example
        is chosen by ``train.arff``.

    Raises:
        anything: the plugin is out of use, with its other records.

    Example::

        from lambdaml_core.hookspecs import hookimpl
        from lambdaml_core.specs import DataFormatSpec

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_data_formats():
            yield DataFormatSpec(
                name="arff",
                factory="lambdaml_acme.arff:Arff",
                suffixes=(".arff",),
                summary="files of Weka",
            )
    """


@hookspec
def lambdaml_run_event(event: Mapping[str, Any]) -> None:
    """Observe runs.

    Called: in the driver, with each event of a run as it happens, after one another; the run waits until it returns.

    Args:
        event: a JSON object, a copy of the plugin's own, with ``event`` (what happened), ``run`` (its name), ``time_s``
            (unix time), and what belongs to such an event.

    Returns:
        nothing that is used.

    Raises:
        anything: it is logged once as a warning, and the run goes on; the plugin is told further events.

    Example::

        import logging

        from lambdaml_core.hookspecs import hookimpl

        LAMBDAML_API = 0


        @hookimpl
        def lambdaml_run_event(event):
            if event["event"] == "ended":
                logging.getLogger("acme").warning("%s %s", event["run"], event["status"])
    """
