"""The laws of a plugin's distribution: what pip, type checkers, listings and other plugins see of it.

A complete test file::

    class TestPlugin(PluginLaws):
        @pytest.fixture
        def distribution(self) -> str:
            return "lambdaml-acme"

The distribution is installed, perhaps editable. What it provides has suites of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from lambdaml_core import __version__
from lambdaml_core.discovery import OFFICIAL, Plugin, discover, new_manager
from lambdaml_core.errors import PluginConflict
from lambdaml_core.options import OptionInfo, describe
from lambdaml_core.registry import Registry
from lambdaml_core.specs import LAMBDAML_API, DataFormatSpec, Kind, PluginSpec
from lambdaml_core.testing.base import Laws
from lambdaml_core.testing.plugin_laws.contracts import problems
from lambdaml_core.testing.plugin_laws.imports import imported_by, requirements, undeclared

__all__ = ["PluginLaws"]

_CORE = "lambdaml"
_UNITS = frozenset(
    {"s", "ms", "us", "ns", "seconds", "minutes", "timeout", "bytes", "kb", "mb", "gb", "mib", "gib", "usd"}
)


class PluginLaws(Laws):
    """All laws of a distribution. Override the fixture ``distribution``."""

    @pytest.fixture
    def distribution(self) -> str:
        """The distribution's name, as pip knows it."""
        raise NotImplementedError("override the fixture `distribution`")

    @pytest.fixture
    def plugins(self, distribution: str) -> list[Plugin]:
        """Its entry points, and what became of each."""
        name = canonicalize_name(distribution)
        return [each for each in discover(new_manager()) if canonicalize_name(each.distribution) == name]

    @pytest.fixture
    def records(self, plugins: list[Plugin]) -> list[PluginSpec]:
        """What its hooks give."""
        for plugin in plugins:
            if plugin.error is not None:
                pytest.skip("not tried: mend first what test_hooks_give_valid_records says")
        return [spec for plugin in plugins for spec in plugin.specs]

    def test_it_is_found(self, distribution: str, plugins: list[Plugin]) -> None:
        """The distribution is installed and has an entry point of the group ``lambdaml``.

        Plugins are found by nothing else. Fix ``[project.entry-points.lambdaml]`` in ``pyproject.toml``, with a line
        such as ``acme = "lambdaml_acme.plugin"``, and install it again: entry points are read when pip installs.
        """
        assert plugins, f"{distribution} is not installed, or has no entry point of the group lambdaml"

    def test_names_follow_the_distribution(self, distribution: str, plugins: list[Plugin]) -> None:
        """``lambdaml-acme`` has the entry point ``acme`` and the package ``lambdaml_acme``; further entry points are
        called ``acme-...``.

        By its short name a plugin is switched off, and found where it is broken; and two distributions whose packages
        have one name overwrite each other's files. Fix the names in ``pyproject.toml``, and the folder's.
        """
        name = canonicalize_name(distribution)
        if name == _CORE:
            pytest.skip("this is LambdaML itself")
        short = name.removeprefix("lambdaml-")
        for plugin in plugins:
            assert f"{canonicalize_name(plugin.name)}-".startswith(f"{short}-"), "the entry point's name"
            assert f"{canonicalize_name(plugin.module)}-".startswith(f"{name}-"), "the module's name"

    def test_importing_it_imports_nothing_heavy(self, plugins: list[Plugin], tmp_path: Path) -> None:
        """A fresh Python that imports the plugin's module and calls its hooks imports nothing beside the standard
        library and LambdaML's records.

        Every ``lambdaml`` command imports every plugin, so an SDK there would slow all commands, and break them where
        it is missing. Fix the module: name the implementation by a string, ``"lambdaml_acme.storage:AcmeStorage"``, and
        import what it needs in its own module.
        """
        for plugin in plugins:
            own = plugin.module.partition(".")[0]
            heavy = imported_by(tmp_path, [plugin.module], hooks=True) - {own}
            assert not heavy, f"importing {plugin.module} imports {', '.join(sorted(heavy))}"

    def test_it_states_the_plugin_api(self, plugins: list[Plugin]) -> None:
        """``LAMBDAML_API`` of the plugin's module is the version of the plugin interface that is installed.

        It is read before anything else of the plugin is used, so that one written for another version is refused with a
        reason. Fix it by ``LAMBDAML_API = 0`` at the top of the module, once the plugin is written for that version.
        """
        for plugin in plugins:
            stated = getattr(importlib.import_module(plugin.module), "LAMBDAML_API", None)
            assert type(stated) is int, f"LAMBDAML_API of {plugin.module} is {stated!r}"
            assert stated == LAMBDAML_API

    def test_hooks_give_valid_records(self, plugins: list[Plugin]) -> None:
        """Hooks have names that exist, raise nothing, and give records that can be used; something is provided.

        One record that cannot be used takes the whole plugin out of use, since nobody could tell what else is wrong.
        Fix what the message names. Hooks are in ``lambdaml_core.hookspecs``, records in ``lambdaml_core.specs``.
        """
        for plugin in plugins:
            if plugin.error is not None:
                pytest.fail(plugin.error.message)  # its hint is for users
            assert plugin.specs or plugin.observes, f"the hooks of {plugin} give nothing"

    def test_every_record_says_what_it_is(self, records: list[PluginSpec]) -> None:
        """The ``summary`` of each record is one line of at most 120 characters.

        It is all that users see beside the name in ``lambdaml plugins``. Fix ``summary=``.
        """
        for spec in records:
            assert spec.summary.strip(), f"{spec.kind} {spec.name} has no summary"
            assert "\n" not in spec.summary, f"the summary of {spec.kind} {spec.name} has several lines"
            assert len(spec.summary) <= 120, f"the summary of {spec.kind} {spec.name} is long"

    def test_options_say_what_they_are(self, records: list[PluginSpec]) -> None:
        """Each option has a default and a line of help that says more than its name; a number whose name ends in a
        unit (``_s``, ``_bytes``) or in ``timeout`` has that unit.

        Options are documented nowhere else: ``lambdaml plugins show`` prints these. Without defaults there is nothing
        to start from. Fix ``option(default, help=..., unit=...)``; a default may be None.
        """
        wrong = [
            f"{spec.name}.{option.name} {what}"
            for spec in records
            for option in describe(spec.options)
            for what in _option_problems(option)
        ]
        assert not wrong, "\n".join(wrong)

    def test_implementations_keep_their_contracts(self, records: list[PluginSpec]) -> None:
        """What each record names can be imported and called as a factory, and has every method of its contract, each
        taking what LambdaML gives it. Optional contracts (``Supports...``) are there whole or not at all.

        A method that is missing or takes something else would fail in the middle of a run. Fix what is named; the
        contracts are the protocols in the ``base`` modules of core.
        """
        wrong = [f"{spec.kind} {spec.name}: {problem}" for spec in records for problem in problems(spec)]
        assert not wrong, "\n".join(wrong)

    def test_no_name_is_anothers(self, distribution: str, records: list[PluginSpec]) -> None:
        """No name, alias, URL scheme or file ending belongs to another installed plugin, or to one of LambdaML's own
        plugins that is not installed.

        A name that two plugins claim is refused until users remove one of them. Fix it by another name.
        """
        registry, name = Registry(), canonicalize_name(distribution)
        own = {word: owner for owner, words in OFFICIAL.items() if owner != name for word in words}
        wrong = [f"{kind} {word} is of {own[kind, word]}" for kind, word in _words(records) if (kind, word) in own]
        for spec in records:
            try:
                for word in spec.words():
                    registry.find(spec.kind, word)
                for suffix in spec.suffixes if isinstance(spec, DataFormatSpec) else ():
                    registry.find_format(f"name{suffix}")
            except PluginConflict as e:
                wrong.append(e.message)
        assert not wrong, "\n".join(wrong)

    def test_the_dependency_on_lambdaml_is_bounded(self, distribution: str) -> None:
        """The distribution needs ``lambdaml``, this version is allowed, and the next incompatible one is not.

        Without a lower bound pip keeps a version that is too old; without an upper bound the plugin breaks on the day
        on which interfaces change. Fix it by ``dependencies = ["lambdaml>=0.1,<1"]``.
        """
        if canonicalize_name(distribution) == _CORE:
            pytest.skip("this is LambdaML itself")
        needed = [each for each in requirements(distribution) if canonicalize_name(each.name) == _CORE]
        assert needed, f"{distribution} does not depend on lambdaml"
        allowed = [each.specifier for each in needed]
        next_major = str(int(__version__.partition(".")[0]) + 1)
        assert all(each.contains(__version__, prereleases=True) for each in allowed), f"{__version__} is not allowed"
        assert not all(each.contains("0.0.1") for each in allowed), "there is no lower bound"
        assert not all(each.contains(next_major) for each in allowed), f"{next_major} is allowed"

    def test_what_it_imports_is_declared(
        self, distribution: str, records: list[PluginSpec], plugins: list[Plugin], tmp_path: Path
    ) -> None:
        """Whatever importing the implementations imports comes with a distribution that this one needs.

        On the author's machine everything is there; on a user's, only what pip was told. Fix ``dependencies``, or
        import what is optional where it is used.
        """
        factories = {spec.factory.partition(":")[0] for spec in records}
        packages = imported_by(tmp_path, sorted(factories)) - {plugin.module.partition(".")[0] for plugin in plugins}
        wrong = undeclared(distribution, packages)
        assert not wrong, "\n".join(f"{package} of {' or '.join(names)}" for package, names in wrong.items())

    def test_it_ships_its_types(self, plugins: list[Plugin]) -> None:
        """The package has a file ``py.typed``, so that type checkers use its annotations.

        Without it ``mypy --strict`` refuses every import of the plugin. Fix it by an empty file ``py.typed`` beside
        the package's ``__init__.py``, which the wheel must contain; a plugin of one module becomes a package.
        """
        for plugin in plugins:
            assert any(_folders(plugin.module)), f"{plugin.module} is in no package with a py.typed"


def _option_problems(option: OptionInfo) -> Iterator[str]:
    if option.required:
        yield "has no default"
    if "\n" in option.help:
        yield "has a help of several lines"
    if canonicalize_name(option.help.replace(" ", "-")) == canonicalize_name(option.name):
        yield "has a help that only repeats the name"
    number = {"int", "float"} & set(option.type.split(" | "))
    if number and not option.unit and option.name.rpartition("_")[2] in _UNITS:
        yield "has no unit"


def _words(records: list[PluginSpec]) -> Iterator[tuple[Kind, str]]:
    return ((spec.kind, word) for spec in records for word in spec.words())


def _folders(module: str) -> Iterator[Path]:
    """The files ``py.typed`` of the packages that the module is in."""
    parts = module.split(".")
    for n in range(1, len(parts) + 1):
        spec = importlib.util.find_spec(".".join(parts[:n]))
        for folder in (spec.submodule_search_locations if spec else None) or ():
            if (Path(folder) / "py.typed").is_file():
                yield Path(folder) / "py.typed"
