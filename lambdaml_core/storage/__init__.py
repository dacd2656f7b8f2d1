"""Storage: the contract (``base.py``), the built-in storages, and the layers above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lambdaml_core.specs import Reference, StorageSpec
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.chunk import Chunk
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.layers import Complete, Count, Counts, FullStorage
from lambdaml_core.storage.retry import Retry
from lambdaml_core.storage.url import StorageURL, from_environment

__all__ = ["FullStorage", "StorageURL", "build_storage", "check_key", "open_storage", "storage_reference"]


def storage_reference(url: str, *, channel: bool = False) -> Reference:
    """The plugin that serves a URL, with the options of its query checked; those of layers around it likewise.

    Args:
        channel: it is for messages, which need not outlive a crash of the machine.

    Raises:
        URLError: not a storage URL.
        PluginError: no plugin serves the scheme; the error names what to install.
        OptionError: an option of the query is wrong.
    """
    return _reference(StorageURL.parse(url), channel)


def _reference(url: StorageURL, channel: bool) -> Reference:
    from lambdaml_core.registry import default_registry  # a worker has its reference and needs no registry

    registry, layer = default_registry(), url.layer()
    if not layer or registry.is_known("storage", url.scheme):
        spec = registry.find("storage", url.scheme)
        defaults = spec.channel if channel and isinstance(spec, StorageSpec) else {}
        return Reference.of(spec, {**defaults, **url.query}, where=url.scheme)
    inner = url.inner()
    options = {name: value for name, value in url.query.items() if name not in inner.query}
    return replace(registry.resolve("storage_layer", layer, options, where=layer), inner=_reference(inner, channel))


def build_storage(url: str, reference: Reference | None = None) -> Storage:
    """The plugin's own storage for a URL, with nothing around it; no I/O happens until it is used.

    Args:
        url: ``{env:NAME}`` in it, and in options that are text, is read from this process's environment.
        reference: the plugin, if it is known already (in a worker); looked up by the URL's scheme otherwise.

    Raises:
        URLError, PluginError, OptionError: as :func:`storage_reference`.
    """
    reference = reference or storage_reference(url)
    storage: Storage = _resolved(reference).build(StorageURL.parse(url).resolved())
    return storage


def open_storage(
    url: str,
    reference: Reference | None = None,
    counts: Counts | None = None,
    interrupt: Callable[[], None] | None = None,
    first_s: float | None = None,
) -> FullStorage:
    """Open the storage of a URL, for values of any size, and try again what fails in passing; no I/O until it is used.

    Args:
        url, reference: as :func:`build_storage`.
        counts: where its requests are counted, each try as one.
        interrupt: called before a request is tried again, in the thread that makes it; may raise to leave.
        first_s: how long requests are tried again as long as none has been answered; None = as long as later ones.

    Raises:
        URLError, PluginError, OptionError: as :func:`storage_reference`.
    """
    storage: FullStorage = Complete(build_storage(url, reference))
    tried = Retry(storage if counts is None else Count(storage, counts), first_s=first_s, interrupt=interrupt)
    return tried if tried.caps.max_value_bytes is None else Chunk(tried)


def _resolved(reference: Reference) -> Reference:
    """With the secrets that its options name: only here, since a specification that has a reference is written down."""
    inner = None if reference.inner is None else _resolved(reference.inner)
    return replace(reference, values={name: _read(value) for name, value in reference.values.items()}, inner=inner)


def _read(value: Any) -> Any:
    if isinstance(value, str):
        return from_environment(value, set())
    return [_read(each) for each in value] if isinstance(value, list | tuple) else value
