"""Storage: the contract (``base.py``), the built-in storages, and the layers above them."""

from __future__ import annotations

from lambdaml_core.specs import Reference
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.layers import Complete, FullStorage
from lambdaml_core.storage.url import StorageURL

__all__ = ["FullStorage", "StorageURL", "check_key", "open_storage", "storage_reference"]


def storage_reference(url: str) -> Reference:
    """The plugin that serves a URL, with the options of its query checked.

    Raises:
        URLError: not a storage URL.
        PluginError: no plugin serves the scheme; the error names what to install.
        OptionError: an option of the query is wrong.
    """
    from lambdaml_core.registry import default_registry  # a worker has its reference and needs no registry

    parsed = StorageURL.parse(url)
    return default_registry().resolve("storage", parsed.scheme, parsed.query, where=parsed.scheme)


def open_storage(url: str, reference: Reference | None = None) -> FullStorage:
    """Open the storage of a URL; no I/O happens until it is used.

    Args:
        url: ``{env:NAME}`` in it is read from this process's environment.
        reference: the plugin, if it is known already (in a worker); looked up by the URL's scheme otherwise.

    Raises:
        URLError, PluginError, OptionError: as :func:`storage_reference`.
    """
    reference = reference or storage_reference(url)
    return Complete(reference.build(StorageURL.parse(url).resolved()))
