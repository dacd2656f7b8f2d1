"""Every hook has a documented signature, an example that works as it stands, and a test of what the example gives."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from distributions import install

from lambdaml_core import discovery, hookspecs
from lambdaml_core.registry import Registry
from lambdaml_core.specs import DataFormatSpec, Kind, ModelSpec, PluginSpec, StorageSpec

HOOKS = {name: function for name, function in vars(hookspecs).items() if name.startswith("lambdaml_")}


def example_of(hook: str) -> str:
    """The module in the hook's docstring."""
    return textwrap.dedent((inspect.getdoc(HOOKS[hook]) or "").partition("Example::\n")[2])


Install = Callable[[str], Registry]


@pytest.fixture
def install_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a hook's example as a plugin, and look at what there is then."""

    def installed(hook: str) -> Registry:
        name = f"example{hook.replace('_', '')}"
        install(tmp_path, name, {"lambdaml_NAME/plugin.py": example_of(hook)})
        monkeypatch.syspath_prepend(tmp_path)
        return Registry()

    return installed


def found(registry: Registry, kind: Kind, name: str) -> PluginSpec:
    """The example's record; all that comes from it is in use."""
    rows = [info for info in registry.plugins() if info.distribution.startswith("lambdaml-example")]
    assert [(info.kind, info.state, info.problem) for info in rows] == [(kind, "ok", None)]
    spec = registry.find(kind, name)
    assert spec.factory.startswith("lambdaml_acme.")
    assert spec.summary
    return spec


def test_storages(install_example: Install) -> None:
    spec = found(install_example("lambdaml_storages"), "storage", "acme")
    assert isinstance(spec, StorageSpec)
    assert spec.schemes == ("acme",)


def test_storage_layers(install_example: Install) -> None:
    assert found(install_example("lambdaml_storage_layers"), "storage_layer", "zip").name == "zip"


def test_communicators(install_example: Install) -> None:
    assert found(install_example("lambdaml_communicators"), "communicator", "gossip").name == "gossip"


def test_optimizers(install_example: Install) -> None:
    assert found(install_example("lambdaml_optimizers"), "optimizer", "adagrad").name == "adagrad"


def test_providers(install_example: Install) -> None:
    assert found(install_example("lambdaml_providers"), "provider", "acme-functions").name == "acme-functions"


def test_models(install_example: Install) -> None:
    spec = found(install_example("lambdaml_models"), "model", "huber")
    assert isinstance(spec, ModelSpec)
    assert spec.target == "number"


def test_data_formats(install_example: Install) -> None:
    registry = install_example("lambdaml_data_formats")
    assert isinstance(found(registry, "data_format", "arff"), DataFormatSpec)
    assert registry.find_format("train.arff").name == "arff"


def test_run_event(install_example: Install, caplog: pytest.LogCaptureFixture) -> None:
    registry = install_example("lambdaml_run_event")
    event = {"event": "ended", "run": "r1", "time_s": 1.5, "status": "succeeded", "stop_reason": None}
    registry.run_event(event)
    registry.run_event({**event, "event": "launched"})
    assert [record.getMessage() for record in caplog.records] == ["r1 succeeded"]


TESTS: Mapping[str, Callable[..., None]] = {
    "lambdaml_storages": test_storages,
    "lambdaml_storage_layers": test_storage_layers,
    "lambdaml_communicators": test_communicators,
    "lambdaml_optimizers": test_optimizers,
    "lambdaml_providers": test_providers,
    "lambdaml_models": test_models,
    "lambdaml_data_formats": test_data_formats,
    "lambdaml_run_event": test_run_event,
}


def test_every_hook_is_known_to_discovery_and_has_a_test_of_its_own() -> None:
    assert set(HOOKS) == {*discovery.RECORDS, discovery.OBSERVER}
    assert set(TESTS) == set(HOOKS)
    for hook, test in TESTS.items():
        assert f'install_example("{hook}")' in inspect.getsource(test)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_documented_signature(hook: str) -> None:
    assert hasattr(HOOKS[hook], "lambdaml_spec")
    doc = inspect.getdoc(HOOKS[hook]) or ""
    for section in ("Called: ", "Returns:\n", "Raises:\n", "Example::\n"):
        assert re.search(rf"^{section}", doc, re.MULTILINE), f"{hook} does not say {section}"
    hints = typing.get_type_hints(HOOKS[hook])
    returned = hints.pop("return")
    assert set(hints) == set(inspect.signature(HOOKS[hook]).parameters)
    for argument in hints:
        assert re.search(rf"^    {argument}: ", doc, re.MULTILINE)
    if hook in discovery.RECORDS:
        assert typing.get_args(returned) == (discovery.RECORDS[hook],)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_example_implements_its_hook_and_no_other(hook: str) -> None:
    source = example_of(hook)
    assert re.findall(r"^def (\w+)\(", source, re.MULTILINE) == [hook]
    assert "LAMBDAML_API = " in source
