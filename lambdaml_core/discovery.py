"""Finding plugins and questioning them, one at a time, so that one that fails takes nothing else down with it."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy

from lambdaml_core import __version__, hookspecs
from lambdaml_core.errors import PluginBroken, PluginDisabled, PluginError, PluginIncompatible
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
    StorageLayerSpec,
    StorageSpec,
    check_spec,
)

DISABLE = "LAMBDAML_DISABLE_PLUGINS"
"""Environment variable: entry-point names of plugins to leave out, separated by commas."""

RECORDS: Mapping[str, type[PluginSpec]] = {
    "lambdaml_storages": StorageSpec,
    "lambdaml_storage_layers": StorageLayerSpec,
    "lambdaml_communicators": CommunicatorSpec,
    "lambdaml_optimizers": OptimizerSpec,
    "lambdaml_providers": ProviderSpec,
    "lambdaml_models": ModelSpec,
    "lambdaml_data_formats": DataFormatSpec,
}
"""What each hook yields."""

OBSERVER = "lambdaml_run_event"

JOB = "of the job"
"""The distribution of plugins that are among the user's own files of a job."""

OFFICIAL: Mapping[str, tuple[tuple[Kind, str], ...]] = {
    "lambdaml-redis": (("storage", "redis"), ("storage", "rediss"), ("storage", "redis+unix")),
    "lambdaml-memcached": (("storage", "memcached"), ("storage", "memcached+unix")),
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
"""Plugins of this project and their names, so that what is not installed can be told from what does not exist."""

# What a plugin's light module has no business importing: listing plugins must stay quick.
_HEAVY = frozenset({"numpy", "scipy", "torch", "pandas", "sklearn", "boto3", "botocore", "obstore", "redis", "google"})


@dataclass
class Plugin:
    """One entry point and what became of it.

    Attributes:
        name, module: of the entry point.
        distribution, version: what pip knows it by.
        specs: the records it gave, up to the first failure.
        observes: it implements the observer's hook.
        error: why none of it can be used, or None.
        heavy: packages that importing its light module has imported.
    """

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
        return f"{self.name} ({self.distribution} {self.version}".rstrip() + ")"


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows our hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def discover(manager: pluggy.PluginManager, plugins: list[Plugin] | None = None) -> list[Plugin]:
    """Load plugins and register those that work with ``manager``. Raises nothing on account of a plugin.

    Args:
        plugins: default: every installed one.
    """
    plugins = list(_installed()) if plugins is None else plugins
    off = disabled()
    for plugin in plugins:
        try:
            _load(manager, plugin, off)
        except PluginError as e:
            plugin.error = e
    return plugins


def disabled() -> list[str]:
    """The names listed in the environment variable ``DISABLE``."""
    return [word.strip() for word in os.environ.get(DISABLE, "").split(",") if word.strip()]


def call(manager: pluggy.PluginManager, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
    """Call a hook of one plugin alone: what it raises can then be laid at its door."""
    others = [p for key, p in manager.list_name_plugin() if key != plugin.key]
    results: list[Any] = manager.subset_hook_caller(hook, others)(**arguments)
    return results


def said(e: BaseException) -> str:
    """Somebody else's exception as one line of bounded length."""
    text = " ".join(f"{type(e).__name__}: {e}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def _installed() -> Iterator[Plugin]:
    # The built-ins are named here and not by an entry point, so that they are there in a bare checkout too.
    yield Plugin("core", "lambdaml_core.plugin", "lambdaml", __version__)
    for entry in sorted(metadata.entry_points(group=hookspecs.GROUP)):
        dist = entry.dist
        yield Plugin(entry.name, entry.value, dist.name if dist else "unknown", dist.version if dist else "unknown")


def _load(manager: pluggy.PluginManager, plugin: Plugin, off: list[str]) -> None:
    if plugin.name in off:
        rest = ",".join(word for word in off if word != plugin.name)
        raise PluginDisabled(
            f"the plugin {plugin} is switched off by {DISABLE}",
            hint=f"export {DISABLE}={rest}" if rest else f"unset {DISABLE}",
        )
    before = set(sys.modules)
    with _blame(plugin, "fails to import"):
        module = importlib.import_module(plugin.module)
    plugin.heavy = sorted(_HEAVY & (set(sys.modules) - before))
    _check_api(plugin, module)
    with _blame(plugin, "is not written as a plugin"):
        hooks = _register(manager, plugin, module)
    plugin.observes = OBSERVER in hooks
    for hook in [hook for hook in RECORDS if hook in hooks]:
        with _blame(plugin, f"fails in {hook}"):
            for records in call(manager, plugin, hook):
                for record in records:
                    _accept(plugin, hook, record)


def _check_api(plugin: Plugin, module: ModuleType) -> None:
    api = getattr(module, "LAMBDAML_API", None)
    if type(api) is int and api == LAMBDAML_API:
        return
    stated = "states no LAMBDAML_API" if api is None else f"is written for plugin API {api!r}"
    newer = type(api) is int and api > LAMBDAML_API
    raise PluginIncompatible(
        f"the plugin {plugin} {stated}; LambdaML {__version__} has plugin API {LAMBDAML_API}",
        hint="update LambdaML, in a newer checkout: pip install ."
        if newer
        else f"install a version for plugin API {LAMBDAML_API}: {_reinstall(plugin)}",
    )


def _register(manager: pluggy.PluginManager, plugin: Plugin, module: ModuleType) -> set[str]:
    """Register and return the names of the hooks implemented. pluggy checks their arguments."""
    manager.register(module, plugin.key)
    callers = manager.get_hookcallers(module) or []
    if not callers:
        raise TypeError("it implements no hook; a hook is a function lambdaml_... with @hookimpl")
    for caller in callers:
        if not caller.has_spec():
            raise TypeError(f"there is no hook {caller.name}: {nearest(caller.name, [*RECORDS, OBSERVER])}")
    return {caller.name for caller in callers}


def _accept(plugin: Plugin, hook: str, record: Any) -> None:
    if type(record) is not RECORDS[hook]:
        raise TypeError(f"it yields {record!r}, which is no {RECORDS[hook].__name__}")
    check_spec(record)
    for other in plugin.specs:
        twice = set(record.words()) & set(other.words()) if other.kind == record.kind else set()
        if twice:
            raise ValueError(f"it claims {', '.join(sorted(twice))} twice")
    plugin.specs.append(record)


@contextlib.contextmanager
def _blame(plugin: Plugin, what: str) -> Iterator[None]:
    """Run a plugin's code: its prints go to standard error, and whatever it raises makes the plugin broken."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as e:
        raise PluginBroken(f"the plugin {plugin} {what}: {said(e)}", hint=_remedy(plugin, e)) from e


def _remedy(plugin: Plugin, e: BaseException) -> str:
    own = plugin.module.partition(".")[0]
    absent = e.name.partition(".")[0] if isinstance(e, ModuleNotFoundError) and e.name else own
    if absent != own:
        return f"install what it needs: pip install {' '.join(_unmet(plugin) or [absent])}"
    if plugin.distribution == JOB:
        return f"mend {plugin.module}"
    return f"reinstall it: {_reinstall(plugin)}; or remove it: pip uninstall {plugin.distribution}"


def _unmet(plugin: Plugin) -> list[str]:
    """Unconditional requirements of the plugin's distribution that are not installed."""
    try:
        requirements = metadata.requires(plugin.distribution) or []
    except metadata.PackageNotFoundError:
        return []
    names = [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in requirements if ";" not in r]
    return [name for name in names if not any(metadata.distributions(name=name))]


def _reinstall(plugin: Plugin) -> str:
    what = f"./plugins/{plugin.distribution}" if plugin.distribution in OFFICIAL else plugin.distribution
    return f"pip install --upgrade {what}"
