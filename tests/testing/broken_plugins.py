"""Distributions that break one law of a plugin each; ``test_kit_plugin.py`` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from distributions import MODEL, PLUGIN, install

from lambdaml_core.testing.plugin import PluginLaws


class Broken(PluginLaws):
    """A correct distribution for the others to break."""

    law: ClassVar[str]
    files: ClassVar[Mapping[str, str | None]] = {}
    requires: ClassVar[tuple[str, ...]] = ("lambdaml>=0.1,<1",)
    entry_points: ClassVar[str] = "[lambdaml]\nNAME = lambdaml_NAME.plugin\n"

    @pytest.fixture
    def distribution(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        name = type(self).__name__.removeprefix("Test").lower()
        install(tmp_path, name, self.files, requires=self.requires, entry_points=self.entry_points)
        monkeypatch.syspath_prepend(tmp_path)
        return f"lambdaml-{name}"


def plugin(old: str, new: str) -> Mapping[str, str | None]:
    """The plugin's module with something changed."""
    assert old in PLUGIN
    return {"lambdaml_NAME/plugin.py": PLUGIN.replace(old, new)}


def options(field: str) -> Mapping[str, str | None]:
    """The plugin's module with an option."""
    with_options = PLUGIN.replace(
        "@hookimpl",
        "from dataclasses import dataclass\nfrom lambdaml_core.options import option\n\n\n"
        f"@dataclass(frozen=True)\nclass Options:\n    {field}\n\n\n@hookimpl",
    )
    return {"lambdaml_NAME/plugin.py": with_options.replace('summary="', 'options=Options, summary="')}


def model(source: str) -> Mapping[str, str | None]:
    return {"lambdaml_NAME/model.py": MODEL + source}


class OfAnotherGroup(Broken):
    law = "test_it_is_found"
    entry_points = "[lambdaml.plugins]\nNAME = lambdaml_NAME.plugin\n"


class OtherName(Broken):
    law = "test_names_follow_the_distribution"
    entry_points = "[lambdaml]\nspecial = lambdaml_NAME.plugin\n"


class CommonPackage(Broken):
    """Any distribution could have a package of this name."""

    law = "test_names_follow_the_distribution"
    entry_points = "[lambdaml]\nNAME = plugins.NAME\n"
    files: ClassVar[Mapping[str, str | None]] = {"plugins/NAME.py": PLUGIN}


class ImportsItsSdk(Broken):
    law = "test_importing_it_imports_nothing_heavy"
    files = plugin("from lambdaml_core.hookspecs", "import numpy\nfrom lambdaml_core.hookspecs")


class LooksAtItsSdk(Broken):
    """The module is light, its hook is not."""

    law = "test_importing_it_imports_nothing_heavy"
    files = plugin("    yield", "    import iniconfig\n    yield")


class NamesItsClass(Broken):
    """Names the implementation by its class's own name, for which all of it is imported."""

    law = "test_importing_it_imports_nothing_heavy"
    files = plugin("LAMBDAML_API = 0", "LAMBDAML_API = 0\n\nfrom lambdaml_NAME.model import Model")


class StatesNothing(Broken):
    law = "test_it_states_the_plugin_api"
    files = plugin("LAMBDAML_API = 0", "")


class OfTheFuture(Broken):
    law = "test_it_states_the_plugin_api"
    files = plugin("LAMBDAML_API = 0", "LAMBDAML_API = 99")


class MisspeltHook(Broken):
    law = "test_hooks_give_valid_records"
    files = plugin("def lambdaml_models", "def lambdaml_model")


class FailingHook(Broken):
    law = "test_hooks_give_valid_records"
    files = plugin("    yield", "    open('settings.toml')\n    yield")


class MutableOptions(Broken):
    """Options that somebody may change after they were checked."""

    law = "test_hooks_give_valid_records"
    files: ClassVar[Mapping[str, str | None]] = {
        path: text and text.replace("frozen=True", "frozen=False")
        for path, text in options("rate: float = option(0.1, help='how fast')").items()
    }


class GivesNothing(Broken):
    law = "test_hooks_give_valid_records"
    files = plugin("    yield", "    if False:\n        yield")


class SaysNothing(Broken):
    law = "test_every_record_says_what_it_is"
    files = plugin(', summary="a model"', "")


class WithoutUnit(Broken):
    law = "test_options_say_what_they_are"
    files = options("wait_s: float = option(1.0, help='how long to wait')")


class RepeatsTheName(Broken):
    law = "test_options_say_what_they_are"
    files = options("retry_count: int = option(1, help='Retry count')")


class WithoutDefault(Broken):
    law = "test_options_say_what_they_are"
    files = options("region: str = option(help='where the service is')")


class MissingMethod(Broken):
    law = "test_implementations_keep_their_contracts"
    files = model("    score = None\n")


class TakesLess(Broken):
    law = "test_implementations_keep_their_contracts"
    files = model("    def loss_and_gradient(self, params, batch, out):\n        return 0.0\n")


class AsksForMore(Broken):
    law = "test_implementations_keep_their_contracts"
    files = model("    def predict(self, params, batch, threshold):\n        return params\n")


class WithoutOptions(Broken):
    law = "test_implementations_keep_their_contracts"
    files: ClassVar[Mapping[str, str | None]] = {"lambdaml_NAME/model.py": MODEL.replace("self, options", "self")}


class NotThere(Broken):
    law = "test_implementations_keep_their_contracts"
    files: ClassVar[Mapping[str, str | None]] = {"lambdaml_NAME/model.py": None}


class SaysNotWhatItMakes(Broken):
    law = "test_implementations_keep_their_contracts"
    files: ClassVar[Mapping[str, str | None]] = {
        **plugin(":Model", ":make"),
        **model("\n\ndef make(options):\n    return Model(options)\n"),
    }


class HalfAnOptionalContract(Broken):
    """Puts many, and gets them one by one: core would never know."""

    law = "test_implementations_keep_their_contracts"
    files: ClassVar[Mapping[str, str | None]] = {
        "lambdaml_NAME/plugin.py": PLUGIN.replace("_models", "_storages")
        .replace("ModelSpec(", "StorageSpec(schemes=('NAME',), ")
        .replace("ModelSpec", "StorageSpec"),
        "lambdaml_NAME/model.py": """
            class Model:
                def __init__(self, url, options): ...
                def put(self, key, data, *, if_absent=False, ttl_s=None): ...
                def put_many(self, items, *, if_absent=False, ttl_s=None): ...
                def get(self, key): ...
                def delete(self, keys): ...
                def close(self): ...
        """,
    }


class TakesABuiltinsName(Broken):
    law = "test_no_name_is_anothers"
    files = plugin('name="NAME"', 'name="svm"')


class TakesAnEnding(Broken):
    law = "test_no_name_is_anothers"
    files: ClassVar[Mapping[str, str | None]] = {
        "lambdaml_NAME/plugin.py": PLUGIN.replace("_models", "_data_formats")
        .replace("ModelSpec(", "DataFormatSpec(suffixes=('.csv',), ")
        .replace("ModelSpec", "DataFormatSpec"),
    }


class TakesANameThatIsKept(Broken):
    law = "test_no_name_is_anothers"
    files = plugin('name="NAME"', 'name="kmeans"')


class WithoutLambdaML(Broken):
    law = "test_the_dependency_on_lambdaml_is_bounded"
    requires = ()


class WithoutCeiling(Broken):
    law = "test_the_dependency_on_lambdaml_is_bounded"
    requires = ("lambdaml>=0.1",)


class WithoutFloor(Broken):
    law = "test_the_dependency_on_lambdaml_is_bounded"
    requires = ("lambdaml<1",)


class ForAnotherVersion(Broken):
    law = "test_the_dependency_on_lambdaml_is_bounded"
    requires = ("lambdaml>=0.0.1,<0.1",)


class OnlyForTests(Broken):
    law = "test_the_dependency_on_lambdaml_is_bounded"
    requires = ("lambdaml>=0.1,<1; extra == 'testing'",)


class Undeclared(Broken):
    """Works where pytest is installed."""

    law = "test_what_it_imports_is_declared"
    files: ClassVar[Mapping[str, str | None]] = {"lambdaml_NAME/model.py": "import iniconfig\n" + MODEL}


class DeclaredForTests(Broken):
    law = "test_what_it_imports_is_declared"
    requires = (*Broken.requires, "iniconfig; extra == 'testing'")
    files = Undeclared.files


class Untyped(Broken):
    law = "test_it_ships_its_types"
    files: ClassVar[Mapping[str, str | None]] = {"lambdaml_NAME/py.typed": None}


class OneModule(Broken):
    law = "test_it_ships_its_types"
    entry_points = "[lambdaml]\nNAME = lambdaml_NAME\n"
    files: ClassVar[Mapping[str, str | None]] = {
        "lambdaml_NAME.py": PLUGIN,
        **{f"lambdaml_NAME/{each}": None for each in ("__init__.py", "plugin.py", "model.py", "py.typed")},
    }


BROKEN: list[type[Any]] = Broken.__subclasses__()
globals().update({f"Test{each.__name__}": type(f"Test{each.__name__}", (each,), {}) for each in BROKEN})
