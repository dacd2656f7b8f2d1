"""Lookups among the built-ins, and the records a registry refuses. Broken distributions have a file of their own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from typing import Any

import pytest

from lambdaml_core import discovery, plugin
from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.errors import (
    LambdaMLError,
    OptionError,
    PluginBroken,
    PluginConflict,
    PluginDisabled,
    PluginError,
    PluginNotInstalled,
    UnknownPlugin,
)
from lambdaml_core.registry import DISABLE, Registry, default_registry
from lambdaml_core.specs import DataFormatSpec, Kind, ModelSpec, Reference, StorageSpec

pytestmark = pytest.mark.usefixtures("core_alone")
BUILTIN = [(r.kind, r.name) for r in Registry().plugins() if r.distribution == "lambdaml"]


def test_the_default_registry_is_discovered_once() -> None:
    assert default_registry() is default_registry()


def test_builtins_are_found_by_name_and_alias() -> None:
    registry = Registry()
    assert registry.names("optimizer") == ["ga_sgd", "ma_sgd"]
    assert registry.names("storage") == ["file", "memory"]
    assert registry.find("optimizer", "grad_avg") is registry.find("optimizer", "ga_sgd")
    reference = registry.resolve("optimizer", "grad_avg", {"momentum": "0.5"})
    assert (reference.kind, reference.name) == ("optimizer", "ga_sgd")
    assert reference.values == dataclasses.asdict(GASGDOptions(momentum=0.5))


@pytest.mark.parametrize(("kind", "name"), BUILTIN)
def test_every_builtin_can_be_imported_from_its_reference(kind: Kind, name: str) -> None:
    reference = Registry().resolve(kind, name)
    assert Reference(**dataclasses.asdict(reference)) == reference  # survives a job specification
    assert callable(reference.load())


def test_option_errors_name_the_path() -> None:
    with pytest.raises(OptionError, match=r"unknown option job\.optimizer\.momentom") as e:
        Registry().resolve("optimizer", "ga_sgd", {"momentom": 1}, where="job.optimizer")
    assert e.value.hint == "did you mean momentum?"


@pytest.mark.parametrize(
    ("kind", "name", "error", "hint"),
    [
        ("storage", "redis", PluginNotInstalled, "pip install ./plugins/lambdaml-redis"),
        ("provider", "aws-lambda", PluginNotInstalled, "pip install ./plugins/lambdaml-aws-lambda"),
        ("storage", "fiel", UnknownPlugin, "did you mean file?"),
        ("provider", "zzzz", UnknownPlugin, "known: inline, local"),
        ("model", "ga_sgd", UnknownPlugin, "another kind of plugin: optimizer"),
        ("storage", "kmeans", UnknownPlugin, "known: file, memory"),
    ],
)
def test_lookup_errors(kind: Kind, name: str, error: type[LambdaMLError], hint: str) -> None:
    with pytest.raises(error) as e:
        Registry().find(kind, name)
    assert hint in (e.value.hint or "")
    assert name in e.value.message


def test_builtins_can_be_switched_off_like_any_other_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "core")
    registry = Registry()
    assert registry.names("storage") == []
    with pytest.raises(UnknownPlugin) as unknown:
        registry.find("storage", "file")
    assert "not loaded: core" in (unknown.value.hint or "")
    with pytest.raises(PluginDisabled) as e:
        registry.find("storage", "core")
    assert e.value.hint == f"unset {DISABLE}"


def test_a_stranger_that_claims_a_builtin_name_is_told_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = discovery.Plugin("mine", "mine.plugin", "lambdaml-mine", "2.0")
    stranger.specs.append(StorageSpec(name="file", schemes=("file",), factory="mine:Mine"))
    builtin = discovery.discover
    monkeypatch.setattr("lambdaml_core.registry.discover", lambda manager: [*builtin(manager), stranger])
    with pytest.raises(PluginConflict) as e:
        Registry().find("storage", "file")
    assert "core (lambdaml " in e.value.message
    assert "mine (lambdaml-mine 2.0)" in e.value.message
    assert e.value.hint == f"keep one: pip uninstall lambdaml-mine or export {DISABLE}=mine"


def with_formats(monkeypatch: pytest.MonkeyPatch, *suffixes: str, error: PluginError | None = None) -> Registry:
    """A registry in which another distribution has a format ``mine`` for these suffixes."""
    stranger = discovery.Plugin("mine", "mine.plugin", "lambdaml-mine", "2.0", error=error)
    stranger.specs.append(DataFormatSpec(name="mine", factory="mine:Mine", suffixes=suffixes))
    builtin = discovery.discover
    monkeypatch.setattr("lambdaml_core.registry.discover", lambda manager: [*builtin(manager), stranger])
    return Registry()


def test_a_format_is_found_by_the_longest_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_formats(monkeypatch, ".mine", ".mine.svm")
    assert registry.find_format("a.SVM").name == "libsvm"
    assert registry.find_format("a.b.svm").name == "libsvm"
    assert registry.find_format("a.mine.svm").name == "mine"
    with pytest.raises(UnknownPlugin) as e:
        registry.find_format("a.txt")
    assert ".libsvm, .libsvm.gz, .mine" in (e.value.hint or "")


def test_an_ending_claimed_twice_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_formats(monkeypatch, ".svm")
    assert registry.find_format("a.libsvm").name == "libsvm"
    with pytest.raises(PluginConflict, match=r"the data format \.svm is claimed by core .* and by mine"):
        registry.find_format("a.svm")


def test_a_broken_format_takes_no_ending_from_a_working_one(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_formats(monkeypatch, ".mine", ".mine.svm", error=PluginBroken("it is broken", hint="mend it"))
    assert registry.find_format("a.mine.svm").name == "libsvm"
    with pytest.raises(PluginBroken, match="the data format mine cannot be used: it is broken") as e:
        registry.find_format("a.mine")
    assert e.value.hint == "mend it"


def test_a_plugin_that_names_one_thing_twice_is_refused() -> None:
    found = discovery.Plugin("mine", "mine.plugin", "lambdaml-mine", "2.0")
    discovery._accept(found, "lambdaml_models", ModelSpec(name="one", factory="m:C", aliases=("two",)))
    with pytest.raises(ValueError, match="it claims two twice"):
        discovery._accept(found, "lambdaml_models", ModelSpec(name="two", factory="m:C"))


def test_there_is_a_hook_for_each_kind() -> None:
    assert tuple(r.kind for r in discovery.RECORDS.values()) == typing.get_args(Kind)


@pytest.mark.parametrize("name", sorted(discovery.RECORDS))
def test_every_hook_is_used_by_the_builtins(name: str) -> None:
    records: list[Any] = list(getattr(plugin, name)())
    assert records
    assert {type(r) for r in records} == {discovery.RECORDS[name]}
    assert all(r.summary for r in records)


def test_official_names_are_unique_and_no_builtin_has_one() -> None:
    names = [pair for pairs in discovery.OFFICIAL.values() for pair in pairs]
    assert len(set(names)) == len(names)
    builtin = {(s.kind, w) for _, s in Registry().records() if s for w in s.words()}
    assert not builtin & set(names)


def test_discovery_imports_nothing_heavy() -> None:
    script = (
        "import sys; from lambdaml_core.registry import default_registry; default_registry().plugins();"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'numpy', 'scipy', 'torch', 'click', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_resolves_a_reference_without_the_registry() -> None:
    script = (
        "import sys; from lambdaml_core.specs import Reference;"
        "Reference('storage', 'memory', 'lambdaml_core.storage.memory:MemoryStorage',"
        " 'lambdaml_core.options:NoOptions').load();"
        "print(sorted({'pluggy', 'click', 'rich', 'lambdaml_core.registry'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
