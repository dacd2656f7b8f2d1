"""Correct distributions of unusual shape; ``test_kit_plugin.py`` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from broken_plugins import Broken
from distributions import PLUGIN

from lambdaml_core.testing.plugin import PluginLaws


class TestPlain(Broken):
    """What the broken ones are but for what each breaks."""


class TestChatty(Broken):
    """Speaks when it is imported, has two entry points, a package in a package, and needs what it imports."""

    entry_points = "[lambdaml]\nNAME = lambdaml_NAME.inner.plugin\nNAME-watch = lambdaml_NAME.watch\n"
    requires = ("lambdaml[sklearn]~=0.1", "iniconfig>=1", "winregistry; sys_platform == 'win32'")
    files: ClassVar[Mapping[str, str | None]] = {
        "lambdaml_NAME/plugin.py": None,
        "lambdaml_NAME/inner/__init__.py": "print('hello')",
        "lambdaml_NAME/inner/plugin.py": PLUGIN.replace("model:Model", "model:make"),
        "lambdaml_NAME/model.py": """
            import iniconfig

            class Model:
                @staticmethod
                def penalised(data): ...
                @classmethod
                def init(cls, *arguments): ...
                def loss_and_gradient(self, params, batch, out, ready=None, *, deterministic=True): ...
                def predict(self, *arguments, **keywords): ...
                def metrics(self, totals): ...
                def __getattr__(self, name): ...
                def _score(self, params, batch): ...
                score = _score

            def make(options, extra=None) -> Model:
                return Model()
        """,
        "lambdaml_NAME/watch.py": """
            from lambdaml_core.hookspecs import hookimpl

            LAMBDAML_API = 0

            @hookimpl
            def lambdaml_run_event():
                pass
        """,
    }


class TestOfOtherKinds(Broken):
    """A list of records, of a layer that gives what it does not know on, and of a pattern that is a lambda."""

    files: ClassVar[Mapping[str, str | None]] = {
        "lambdaml_NAME/plugin.py": """
            from dataclasses import dataclass

            from lambdaml_core.hookspecs import hookimpl
            from lambdaml_core.options import option
            from lambdaml_core.specs import CommunicatorSpec, StorageLayerSpec

            LAMBDAML_API = 0

            @dataclass(frozen=True)
            class Options:
                NAME_wait_s: float | None = option(None, help="how long to wait", unit="s")

            @hookimpl
            def lambdaml_storage_layers():
                path = "lambdaml_NAME.model:Layered"
                return [StorageLayerSpec(name="NAME", factory=path, options=Options, summary="nothing but a layer")]

            @hookimpl
            def lambdaml_communicators():
                return [CommunicatorSpec(name="NAME", factory="lambdaml_NAME.model:pattern", summary="a pattern")]
        """,
        "lambdaml_NAME/model.py": """
            from lambdaml_core.storage.layers import Layer

            class Layered(Layer):
                def __init__(self, url, options, inner):
                    super().__init__(inner.build(url.inner()))

            pattern = lambda call: iter(())
        """,
    }


class TestLambdaMLItself(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml"
