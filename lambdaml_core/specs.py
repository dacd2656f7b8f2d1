"""The typed records that plugins return from their hooks. Importing this imports nothing heavy.

An implementation is named by a lazy ``"module:Class"`` string, so that listing plugins imports none of them. What a
worker gets in its job specification is a :class:`Reference`, which needs no plugin manager to be built.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lambdaml_core.errors import PluginBroken
from lambdaml_core.options import NoOptions, check_options, parse

Kind = Literal["storage", "storage_layer", "communicator", "optimizer", "provider", "model", "data_format"]

Target = Literal["class", "number", "none"]
"""What rows are labelled with: classes to tell apart, or numbers to come near to; none: labels are not looked at."""

LAMBDAML_API = 0
"""Version of the plugin API; a plugin states the one it was written for. 0 = provisional."""


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """What all records have in common.

    Attributes:
        name: the word that chooses it in a job.
        factory: ``"module:Class"``, imported when used.
        options: a frozen dataclass whose fields are made by :func:`lambdaml_core.options.option`.
        summary: one line for listings.
        aliases: other words for it.
    """

    kind: ClassVar[Kind]
    name: str
    factory: str
    options: type = NoOptions
    summary: str = ""
    aliases: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        """Every word that chooses it, its name first."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, kw_only=True)
class StorageSpec(PluginSpec):
    """A storage; ``factory(url, options)``, contract :class:`lambdaml_core.storage.base.Storage`.

    Attributes:
        schemes: URL schemes it serves; the name is one of them.
        channel: options that differ from their defaults where it is a channel, whose values need to outlive nothing.
    """

    kind = "storage"
    schemes: tuple[str, ...]
    channel: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> tuple[str, ...]:
        """Every word that chooses it, its name first; URL schemes are words too."""
        return tuple(dict.fromkeys((*super().words(), *self.schemes)))


@dataclass(frozen=True, kw_only=True)
class StorageLayerSpec(PluginSpec):
    """A storage around another, chosen by ``NAME+`` before that one's URL; ``factory(url, options, inner)``.

    ``inner`` is the :class:`Reference` of the storage within, and is given ``url.inner()``. In the URL's query, options
    that start with ``NAME_`` are the layer's, so all of its fields do.
    """

    kind = "storage_layer"


@dataclass(frozen=True, kw_only=True)
class CommunicatorSpec(PluginSpec):
    """A communication pattern; ``factory`` names a function, contract :data:`lambdaml_core.comm.base.Pattern`. It has
    no options.
    """

    kind = "communicator"


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(PluginSpec):
    """An optimizer; ``factory(options)``, contract :class:`lambdaml_core.optim.base.Optimizer`."""

    kind = "optimizer"


@dataclass(frozen=True, kw_only=True)
class ProviderSpec(PluginSpec):
    """A provider; ``factory(options)``, contract :class:`lambdaml_core.provider.base.Provider`."""

    kind = "provider"


@dataclass(frozen=True, kw_only=True)
class ModelSpec(PluginSpec):
    """A model; ``factory(options)``, contract :class:`lambdaml_core.models.base.Model`.

    Attributes:
        target: what it learns to tell: the ``class`` of a row, or a ``number``; ``none`` where it learns from rows
            alone, whatever they are labelled with.
    """

    kind = "model"
    target: Target = "class"


@dataclass(frozen=True, kw_only=True)
class DataFormatSpec(PluginSpec):
    """A data format; ``factory(options)``, contract :class:`lambdaml_core.data.formats.DataFormat`.

    Attributes:
        suffixes: endings of file names that it is the default for, such as ``.libsvm``.
    """

    kind = "data_format"
    suffixes: tuple[str, ...] = ()


_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_SCHEME = re.compile(r"[a-z][a-z0-9.-]*(\+[a-z0-9.-]+)?")  # one with a + hides the layer of its first word
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)+")
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def check_spec(spec: PluginSpec) -> None:
    """Refuse a record that could not be used. Imports nothing of the plugin's.

    Raises:
        ValueError, TypeError: one line that says what is wrong with it.
    """
    _check_words(spec, "a name", (spec.name,), _NAME)
    _check_words(spec, "an alias", spec.aliases, _NAME)
    if isinstance(spec, StorageSpec):
        _check_words(spec, "a URL scheme", spec.schemes, _SCHEME)
        if spec.name not in spec.schemes:
            raise ValueError(f"the storage {spec.name} must have its name among its URL schemes {spec.schemes}")
    if isinstance(spec, DataFormatSpec):
        _check_words(spec, "a suffix", spec.suffixes, _SUFFIX)
    if not isinstance(spec.summary, str):
        raise TypeError(f"the summary of {spec.name} must be a string, not {spec.summary!r}")
    if not (isinstance(spec.factory, str) and _FACTORY.fullmatch(spec.factory)):
        raise ValueError(f"the factory of {spec.name} must be written 'module:Class', not {spec.factory!r}")
    check_options(spec.options)
    _check_option_names(spec, {field.name for field in dataclasses.fields(spec.options)})


def _check_option_names(spec: PluginSpec, names: set[str]) -> None:
    if isinstance(spec, CommunicatorSpec) and names:
        raise ValueError(f"the communicator {spec.name} has options, and a pattern is a function that is given none")
    if isinstance(spec, StorageSpec):
        for name in set(spec.channel) - names:
            raise ValueError(f"the storage {spec.name} has no option {name}, which it has a value for as a channel")
    if isinstance(spec, StorageLayerSpec):
        for name in sorted(names):
            if not name.startswith(f"{spec.name}_"):
                raise ValueError(f"the option {name} of the storage layer {spec.name} must start with {spec.name}_")


def _check_words(spec: PluginSpec, what: str, words: Any, allowed: re.Pattern[str]) -> None:
    if not isinstance(words, tuple):  # a string would pass as the tuple of its letters
        raise TypeError(f"{words!r} of {spec.name} must be a tuple, each item {what}")
    for word in words:
        if not (isinstance(word, str) and allowed.fullmatch(word)):
            raise ValueError(f"{word!r} cannot be {what} of {spec.factory!r}: it must match {allowed.pattern}")


@dataclass(frozen=True)
class Reference:
    """A resolved choice of a plugin as it travels in a job specification: JSON, no plugin manager needed.

    Attributes:
        kind, name: what was chosen.
        factory: ``"module:Class"``.
        options: ``"module:Class"`` of the options dataclass.
        values: options by name, checked.
        inner: of a storage layer, what it is around.
    """

    kind: str
    name: str
    factory: str
    options: str
    values: Mapping[str, Any] = field(default_factory=dict)
    inner: Reference | None = None

    def __post_init__(self) -> None:
        inner: Any = self.inner
        if isinstance(inner, Mapping):  # from JSON
            object.__setattr__(self, "inner", Reference(**inner))

    @classmethod
    def of(cls, spec: PluginSpec, values: Mapping[str, Any], *, where: str = "") -> Reference:
        """Check ``values`` against the record's options and refer to it.

        Raises:
            OptionError: an option is unknown, of the wrong type or out of range.
        """
        checked = dataclasses.asdict(parse(spec.options, values, where=where or spec.kind))
        options = f"{spec.options.__module__}:{spec.options.__qualname__}"
        return cls(spec.kind, spec.name, spec.factory, options, checked)

    def load(self) -> Any:
        """Import what ``factory`` names.

        Raises:
            PluginBroken: it cannot be imported.
        """
        return _load(self, self.factory)

    def build(self, *args: Any) -> Any:
        """``factory(*args, options)``, and ``inner`` where there is one.

        Raises:
            PluginBroken: factory or options cannot be imported.
        """
        around = () if self.inner is None else (self.inner,)
        return self.load()(*args, parse(_load(self, self.options), self.values, where=self.kind), *around)


def _load(ref: Reference, path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as e:
        raise PluginBroken(
            f"the {ref.kind} {ref.name} cannot be imported: {type(e).__name__}: {e}",
            hint="install the plugin, and what it needs, where the workers run",
        ) from e
