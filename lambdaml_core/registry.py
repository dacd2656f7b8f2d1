"""The registry: which plugins are installed, which of them work, and one clear error per way a lookup fails.

A plugin is one entry point of the group ``lambdaml``. Discovery imports each plugin's light module, reads its
``LAMBDAML_API``, and only then runs its hooks, one plugin at a time: one that fails is remembered with its error, which
is raised when something of that plugin is used and never before. Worker processes have no need of this module.
"""

from __future__ import annotations

import functools
import logging
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lambdaml_core.discovery import (
    DISABLE,
    JOB,
    OBSERVER,
    OFFICIAL,
    Plugin,
    call,
    disabled,
    discover,
    new_manager,
    said,
)
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
from lambdaml_core.specs import DataFormatSpec, Kind, PluginSpec, Reference

__all__ = ["DISABLE", "PluginInfo", "Registry", "State", "default_registry"]

State = Literal["ok", "disabled", "broken", "incompatible", "conflict"]


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


_STATES: Mapping[type[PluginError], State] = {
    PluginDisabled: "disabled",
    PluginBroken: "broken",
    PluginIncompatible: "incompatible",
}


class Registry:
    """The plugins of this environment, discovered as it is built; :func:`default_registry` shares one."""

    def __init__(self) -> None:
        self._manager = new_manager()
        self._plugins = discover(self._manager)
        self._reported: set[str] = set()

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

    def is_known(self, kind: Kind, name: str) -> bool:
        """Whether a plugin has this name, be it one that does not work or one of ours that is not installed."""
        return bool(self._claims(kind, name)) or bool(_official(kind, name))

    def find_format(self, file_name: str) -> DataFormatSpec:
        """The data format by the ending of a file's name; the longest ending counts, in any case of letters.

        Raises:
            UnknownPlugin: no format has an ending that fits.
            PluginConflict, PluginBroken: as :meth:`find`, where two formats fit equally well, or only a broken one.
        """
        fitting = [
            (len(suffix), plugin, spec)
            for plugin, spec in self._specs()
            if isinstance(spec, DataFormatSpec)
            for suffix in spec.suffixes
            if file_name.lower().endswith(suffix.lower())
        ]
        usable = [fit for fit in fitting if fit[1].error is None] or fitting
        longest = max((length for length, _, _ in usable), default=0)
        best = [(plugin, spec) for length, plugin, spec in usable if length == longest]
        if not best:
            endings = {s for _, spec in self._specs() if isinstance(spec, DataFormatSpec) for s in spec.suffixes}
            raise UnknownPlugin(f"no data format for {file_name}", hint=f"known: {', '.join(sorted(endings))}")
        plugin, spec = best[0]
        if plugin.error:
            raise _used(spec.kind, spec.name, plugin.error)
        if len(best) > 1:
            raise _conflict(spec.kind, file_name[-longest:], [p for p, _ in best])
        return spec

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
                call(self._manager, plugin, OBSERVER, event=dict(event))
            except Exception as e:  # noqa: BLE001 - whatever an observer raises, the run goes on
                if plugin.key not in self._reported:
                    self._reported.add(plugin.key)
                    logging.getLogger(__name__).warning("the observer %s failed: %s", plugin, said(e))

    def replace_job_plugins(self, modules: Sequence[str]) -> None:
        """Know the plugins in these modules of the user's own, and no longer those of the last call."""
        for plugin in [p for p in self._plugins if p.distribution == JOB]:
            self._manager.unregister(name=plugin.key)
            self._plugins.remove(plugin)
        self._plugins.extend(discover(self._manager, [Plugin(module, module, JOB, "") for module in modules]))

    def _specs(self) -> Iterator[tuple[Plugin, PluginSpec]]:
        for plugin in self._plugins:
            for spec in plugin.specs:
                yield plugin, spec

    def _claims(self, kind: str, name: str) -> list[tuple[Plugin, PluginSpec]]:
        return [(p, s) for p, s in self._specs() if s.kind == kind and name in s.words()]

    def _blocked(self, kind: str, name: str) -> list[Plugin]:
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
        kinds = sorted({_label(s.kind) for _, s in self._specs() if name in s.words()})
        words = {w for p, s in self._specs() if s.kind == kind and p.error is None for w in s.words()}
        hint = f"it is the name of another kind of plugin: {', '.join(kinds)}" if kinds else nearest(name, words)
        failing = sorted(p.name for p in self._plugins if p.error)
        if failing:
            hint += f" (not loaded: {', '.join(failing)}; lambdaml plugins says why)"
        return UnknownPlugin(f"unknown {_label(kind)} {name}", hint=hint)

    def _row(self, plugin: Plugin, spec: PluginSpec) -> PluginInfo:
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
    return Registry()


# --- what to say ----------------------------------------------------------------------------------------------


def _info(plugin: Plugin, kind: str, name: str, summary: str = "") -> PluginInfo:
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


def _conflict(kind: str, name: str, rivals: list[Plugin]) -> PluginConflict:
    strangers = [p for p in rivals if p.distribution != "lambdaml"]
    ways = [f"pip uninstall {p.distribution}" for p in strangers if len({q.distribution for q in rivals}) > 1]
    ways += [f"export {DISABLE}={','.join([*disabled(), p.name])}" for p in strangers]
    return PluginConflict(
        f"the {_label(kind)} {name} is claimed by " + " and by ".join(str(p) for p in rivals),
        hint="keep one: " + " or ".join(ways),
    )


def _official(kind: str, name: str) -> str:
    return next((dist for dist, names in OFFICIAL.items() if (kind, name) in names), "")


def _same(a: str, b: str) -> bool:
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def _label(kind: str) -> str:
    return kind.replace("_", " ")
