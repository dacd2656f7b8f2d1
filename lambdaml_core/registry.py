"""The registry: which plugins are installed, which of them work, and one clear error per way a lookup fails.

A plugin is one entry point of the group ``lambdaml``. Discovery imports each plugin's light module, reads its
``LAMBDAML_API``, and only then runs its hooks, one plugin at a time: one that fails is remembered with its error, which
is raised when something of that plugin is used and never before. Worker processes have no need of this module.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any, Literal, NamedTuple

import pluggy

from lambdaml_core import __version__, hookspecs
from lambdaml_core.errors import (
    PluginBroken,
    PluginConflict,
    PluginDisabled,
    PluginError,
    PluginIncompatible,
    PluginNotInstalled,
    UnknownPlugin,
)
from lambdaml_core.options import nearest
from lambdaml_core.specs import (
    LAMBDAML_API,
    CommunicatorSpec,
    DataFormatSpec,
    Kind,
    ModelSpec,
    OptimizerSpec,
    PluginSpec,
    ProviderSpec,
    Reference,
    StorageSpec,
    check_spec,
)

__all__ = ["DISABLE", "PluginInfo", "Registry", "State", "default_registry"]

DISABLE = "LAMBDAML_DISABLE_PLUGINS"
"""Environment variable: entry-point names of plugins to leave out, separated by commas."""

State = Literal["ok", "disabled", "broken", "incompatible", "conflict"]

_RECORDS: Mapping[str, type[PluginSpec]] = {
    "lambdaml_storages": StorageSpec,
    "lambdaml_communicators": CommunicatorSpec,
    "lambdaml_optimizers": OptimizerSpec,
    "lambdaml_providers": ProviderSpec,
    "lambdaml_models": ModelSpec,
    "lambdaml_data_formats": DataFormatSpec,
}
_OBSERVER = "lambdaml_run_event"

# Plugins of this project, so that a name that is not installed can be told from one that does not exist.
_OFFICIAL: Mapping[str, tuple[tuple[Kind, str], ...]] = {
    "lambdaml-redis": (("storage", "redis"), ("storage", "rediss")),
    "lambdaml-memcached": (("storage", "memcached"),),
    "lambdaml-s3": (("storage", "s3"),),
    "lambdaml-dynamodb": (("storage", "dynamodb"),),
    "lambdaml-gcs": (("storage", "gs"),),
    "lambdaml-azure-blob": (("storage", "az"),),
    "lambdaml-admm": (("optimizer", "admm"),),
    "lambdaml-lbfgs": (("optimizer", "lbfgs"),),
    "lambdaml-kmeans": (("optimizer", "em"), ("model", "kmeans"), ("model", "sparse_kmeans")),
    "lambdaml-torch": (("model", "torch"), ("model", "mobilenet"), ("model", "resnet")),
    "lambdaml-aws-lambda": (("provider", "aws-lambda"),),
    "lambdaml-gcp-functions": (("provider", "gcp-functions"),),
}

# What a plugin's light module has no business importing: listing plugins must stay quick.
_HEAVY = frozenset({"numpy", "scipy", "torch", "pandas", "sklearn", "boto3", "botocore", "obstore", "redis", "google"})


class PluginInfo(NamedTuple):
    """One row of ``lambdaml plugins``.

    Attributes:
        kind, name: what it provides; a plugin that could not say shows as kind ``plugin``.
        distribution, version: what pip knows it by.
        state: ``ok`` when it works.
        remedy: the command that mends it; None where there is nothing to mend.
        problem: one line that says what is wrong.
        summary: one line that says what it is.
    """

    kind: str
    name: str
    distribution: str
    version: str
    state: State
    remedy: str | None
    problem: str | None
    summary: str


@dataclass
class _Plugin:
    """One entry point and what became of it."""

    name: str
    module: str
    distribution: str
    version: str
    specs: list[PluginSpec] = field(default_factory=list)
    observes: bool = False
    error: PluginError | None = None
    heavy: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name in pluggy: two distributions may give one name to their entry points."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


_STATES: Mapping[type[PluginError], State] = {
    PluginDisabled: "disabled",
    PluginBroken: "broken",
    PluginIncompatible: "incompatible",
}


class Registry:
    """The plugins of this environment. Build it with :meth:`discover`, or share :func:`default_registry`."""

    def __init__(self, plugins: Iterable[_Plugin], manager: pluggy.PluginManager) -> None:
        self._plugins = list(plugins)
        self._manager = manager
        self._reported: set[str] = set()

    @classmethod
    def discover(cls) -> Registry:
        """Import and question every installed plugin. Raises nothing on account of a plugin."""
        manager = pluggy.PluginManager(hookspecs.GROUP)
        manager.add_hookspecs(hookspecs)
        off = _disabled()
        plugins = list(_installed())
        for plugin in plugins:
            try:
                _load(manager, plugin, off)
            except PluginError as e:
                plugin.error = e
        return cls(plugins, manager)

    def resolve(self, kind: Kind, name: str, values: Mapping[str, Any] | None = None, *, where: str = "") -> Reference:
        """Look up a plugin and check its options.

        Args:
            name: name or alias; for a storage, also a URL scheme.
            values: options by name.
            where: dotted path of the options, for messages.

        Raises:
            PluginError: as :meth:`find`.
            OptionError: an option is unknown, of the wrong type or out of range.
        """
        return Reference.of(self.find(kind, name), values or {}, where=where)

    def find(self, kind: Kind, name: str) -> PluginSpec:
        """The record of a name, an alias, or a storage's URL scheme.

        Raises:
            UnknownPlugin, PluginNotInstalled, PluginBroken, PluginDisabled, PluginIncompatible, PluginConflict: each
                has a hint with the command that mends it.
        """
        claims = self._claims(kind, name)
        working = [(p, s) for p, s in claims if p.error is None]
        if len(working) == 1:
            return working[0][1]
        if working:
            raise _conflict(kind, name, [p for p, _ in working])
        for plugin in [p for p, _ in claims] or self._blocked(kind, name):
            if plugin.error:
                raise _used(kind, name, plugin.error)
        raise self._missing(kind, name)

    def names(self, kind: Kind) -> list[str]:
        """Names of the working plugins of a kind, sorted; aliases left out."""
        return sorted({s.name for p, s in self._specs() if s.kind == kind and p.error is None})

    def plugins(self) -> list[PluginInfo]:
        """A row for each thing provided, sorted by kind and name, working or not."""
        return sorted((row for row, _ in self.records()), key=_order)

    def records(self) -> list[tuple[PluginInfo, PluginSpec | None]]:
        """The rows of :meth:`plugins` with their records; None where a plugin could not give one."""
        rows: list[tuple[PluginInfo, PluginSpec | None]] = []
        for plugin in self._plugins:
            rows.extend((self._row(plugin, spec), spec) for spec in plugin.specs)
            if plugin.observes:
                rows.append((_info(plugin, "observer", plugin.name), None))
            elif not plugin.specs:
                rows.append((_info(plugin, "plugin", plugin.name), None))
        return rows

    def search(self, name: str) -> list[tuple[PluginInfo, PluginSpec | None]]:
        """The rows, of any kind and state, that answer to a name, an alias, a URL scheme or a plugin's own name.

        Raises:
            UnknownPlugin, PluginNotInstalled: there is none.
        """
        rows = [(info, spec) for info, spec in self.records() if name in (spec.words() if spec else (info.name,))]
        if rows:
            return sorted(rows, key=lambda row: _order(row[0]))
        official = next((kind for kind in typing.get_args(Kind) if _official(kind, name)), None)
        if official:
            raise self._missing(official, name)
        known = {w for info, spec in self.records() for w in (spec.words() if spec else (info.name,))}
        raise UnknownPlugin(f"unknown plugin {name}", hint=nearest(name, known))

    def run_event(self, event: Mapping[str, Any]) -> None:
        """Give every observer a copy of the event. An observer's exception is logged once and goes no further."""
        for plugin in [p for p in self._plugins if p.observes and p.error is None]:
            try:
                self._manager.subset_hook_caller(_OBSERVER, _others(self._manager, plugin.key))(event=dict(event))
            except Exception as e:  # noqa: BLE001 - whatever an observer raises, the run goes on
                if plugin.key not in self._reported:
                    self._reported.add(plugin.key)
                    logging.getLogger(__name__).warning("the observer %s failed: %s", plugin, _said(e))

    def _specs(self) -> Iterator[tuple[_Plugin, PluginSpec]]:
        for plugin in self._plugins:
            for spec in plugin.specs:
                yield plugin, spec

    def _claims(self, kind: str, name: str) -> list[tuple[_Plugin, PluginSpec]]:
        return [(p, s) for p, s in self._specs() if s.kind == kind and name in s.words()]

    def _blocked(self, kind: str, name: str) -> list[_Plugin]:
        """Plugins that gave no records and are likely to have this name: by their own name or by our table."""
        official = _official(kind, name)
        return [p for p in self._plugins if p.error and (_same(p.name, name) or _same(p.distribution, official))]

    def _missing(self, kind: Kind, name: str) -> PluginError:
        official = _official(kind, name)
        if official and not any(_same(p.distribution, official) for p in self._plugins):
            return PluginNotInstalled(
                f"the {_label(kind)} {name} is in the plugin {official}, which is not installed",
                hint=f"in a LambdaML checkout that has it: pip install ./plugins/{official}",
            )
        words = {w for p, s in self._specs() if s.kind == kind and p.error is None for w in s.words()}
        hint = nearest(name, words)
        kinds = sorted({_label(s.kind) for _, s in self._specs() if name in s.words()})
        if kinds:
            hint += f" ({name} is the name of: {', '.join(kinds)})"
        failing = sorted(p.name for p in self._plugins if p.error)
        if failing:
            hint += f" (not loaded: {', '.join(failing)}; lambdaml plugins says why)"
        return UnknownPlugin(f"unknown {_label(kind)} {name}", hint=hint)

    def _row(self, plugin: _Plugin, spec: PluginSpec) -> PluginInfo:
        info = _info(plugin, spec.kind, spec.name, spec.summary)
        if plugin.error:
            return info
        for word in spec.words():  # the name comes first: it decides whether the plugin works at all
            rivals = [p for p, _ in self._claims(spec.kind, word) if p.error is None]
            if len(rivals) > 1:
                e = _conflict(spec.kind, word, rivals)
                state: State = "conflict" if word == spec.name else "ok"
                return info._replace(state=state, problem=e.message, remedy=e.hint)
        return info


@functools.cache
def default_registry() -> Registry:
    """The registry of this process, discovered at the first call."""
    return Registry.discover()


# --- finding and questioning plugins --------------------------------------------------------------------------


def _installed() -> Iterator[_Plugin]:
    # The built-ins are named here and not by an entry point, so that they are there in a bare checkout too.
    yield _Plugin("core", "lambdaml_core.plugin", "lambdaml", __version__)
    for entry in sorted(metadata.entry_points(group=hookspecs.GROUP)):
        dist = entry.dist
        yield _Plugin(entry.name, entry.value, dist.name if dist else "unknown", dist.version if dist else "unknown")


def _disabled() -> list[str]:
    return [word.strip() for word in os.environ.get(DISABLE, "").split(",") if word.strip()]


def _load(manager: pluggy.PluginManager, plugin: _Plugin, off: list[str]) -> None:
    if plugin.name in off:
        rest = ",".join(word for word in off if word != plugin.name)
        raise PluginDisabled(
            f"the plugin {plugin} is switched off by {DISABLE}",
            hint=f"export {DISABLE}={rest}" if rest else f"unset {DISABLE}",
        )
    loaded = set(sys.modules)
    with _blame(plugin, "fails to import"):
        module = importlib.import_module(plugin.module)
    plugin.heavy = sorted(_HEAVY & (set(sys.modules) - loaded))
    _check_api(plugin, module)
    with _blame(plugin, "is no valid plugin"):
        _register(manager, plugin, module)
    for hook in (h.name for h in manager.get_hookcallers(module) or ()):
        if hook == _OBSERVER:
            plugin.observes = True
            continue
        with _blame(plugin, f"fails in {hook}"):
            for result in manager.subset_hook_caller(hook, _others(manager, plugin.key))():
                for record in result:
                    _accept(plugin, hook, record)


def _register(manager: pluggy.PluginManager, plugin: _Plugin, module: ModuleType) -> None:
    manager.register(module, plugin.key)
    callers = manager.get_hookcallers(module) or []
    if not callers:
        raise TypeError("it implements no hook")
    for caller in callers:
        if not caller.has_spec():
            raise TypeError(f"there is no hook {caller.name}: {nearest(caller.name, [*_RECORDS, _OBSERVER])}")


def _accept(plugin: _Plugin, hook: str, record: Any) -> None:
    if type(record) is not _RECORDS[hook]:
        raise TypeError(f"it yields {record!r}, which is no {_RECORDS[hook].__name__}")
    check_spec(record)
    for other in plugin.specs:
        twice = set(record.words()) & set(other.words()) if other.kind == record.kind else ()
        if twice:
            raise ValueError(f"it claims {', '.join(sorted(twice))} twice")
    plugin.specs.append(record)


def _check_api(plugin: _Plugin, module: ModuleType) -> None:
    api = getattr(module, "LAMBDAML_API", None)
    if api == LAMBDAML_API and type(api) is int:
        return
    stated = "states no LAMBDAML_API" if api is None else f"is written for plugin API {api!r}"
    newer = type(api) is int and api > LAMBDAML_API
    raise PluginIncompatible(
        f"the plugin {plugin} {stated}; this LambdaML {__version__} has plugin API {LAMBDAML_API}",
        hint="update LambdaML: pip install . in a newer checkout"
        if newer
        else f"install a version for plugin API {LAMBDAML_API}: {_reinstall(plugin)}",
    )


@contextlib.contextmanager
def _blame(plugin: _Plugin, what: str) -> Iterator[None]:
    """Run a plugin's code: its prints go to standard error, and whatever it raises makes the plugin broken."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as e:
        raise PluginBroken(f"the plugin {plugin} {what}: {_said(e)}", hint=_remedy(plugin, e)) from e


def _others(manager: pluggy.PluginManager, name: str) -> list[Any]:
    return [p for other, p in manager.list_name_plugin() if other != name]


# --- what to say ----------------------------------------------------------------------------------------------


def _info(plugin: _Plugin, kind: str, name: str, summary: str = "") -> PluginInfo:
    state: State = "ok"
    problem = remedy = None
    if plugin.error:
        state, problem, remedy = _STATES[type(plugin.error)], plugin.error.message, plugin.error.hint
    elif plugin.heavy:
        problem = f"importing {plugin.module} imports {', '.join(plugin.heavy)}, which slows every command"
        remedy = f"ask the authors of {plugin.distribution} to import it where the plugin is used"
    return PluginInfo(kind, name, plugin.distribution, plugin.version, state, remedy, problem, summary)


def _order(info: PluginInfo) -> tuple[str, ...]:
    return info.kind, info.name, info.distribution, info.version


def _used(kind: str, name: str, error: PluginError) -> PluginError:
    """The plugin's error as raised at a use, fresh each time so that tracebacks do not pile up."""
    fresh = type(error)(f"the {_label(kind)} {name} cannot be used: {error.message}", hint=error.hint)
    fresh.__cause__ = error.__cause__
    return fresh


def _conflict(kind: str, name: str, rivals: list[_Plugin]) -> PluginConflict:
    strangers = [p for p in rivals if p.distribution != "lambdaml"]
    ways = [f"pip uninstall {p.distribution}" for p in strangers if len({q.distribution for q in rivals}) > 1]
    ways += [f"export {DISABLE}={','.join([*_disabled(), p.name])}" for p in strangers]
    return PluginConflict(
        f"the {_label(kind)} {name} is claimed by " + " and by ".join(str(p) for p in rivals),
        hint="keep one: " + " or ".join(ways),
    )


def _remedy(plugin: _Plugin, e: BaseException) -> str:
    own = plugin.module.partition(".")[0]
    absent = e.name.partition(".")[0] if isinstance(e, ModuleNotFoundError) and e.name else own
    if absent != own:
        return f"install what it needs: pip install {' '.join(_unmet(plugin) or [absent])}"
    return f"reinstall it: {_reinstall(plugin)}; or remove it: pip uninstall {plugin.distribution}"


def _unmet(plugin: _Plugin) -> list[str]:
    """Unconditional requirements of the plugin's distribution that are not installed."""
    names = [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in _requirements(plugin) if ";" not in r]
    return [name for name in names if not any(metadata.distributions(name=name))]


def _requirements(plugin: _Plugin) -> list[str]:
    try:
        return metadata.requires(plugin.distribution) or []
    except metadata.PackageNotFoundError:
        return []


def _reinstall(plugin: _Plugin) -> str:
    what = f"./plugins/{plugin.distribution}" if plugin.distribution in _OFFICIAL else plugin.distribution
    return f"pip install --upgrade {what}"


def _official(kind: str, name: str) -> str:
    return next((dist for dist, names in _OFFICIAL.items() if (kind, name) in names), "")


def _same(a: str, b: str) -> bool:
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def _label(kind: str) -> str:
    return kind.replace("_", " ")


def _said(e: BaseException) -> str:
    """An exception of somebody else's as one line of bounded length."""
    text = " ".join(f"{type(e).__name__}: {e}".split())
    return text if len(text) <= 300 else text[:297] + "..."


assert typing.get_args(Kind) == tuple(spec.kind for spec in _RECORDS.values())  # noqa: S101 - one hook per kind
