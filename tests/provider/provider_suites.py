"""The test classes of broken and of odd providers; ``test_provider_kit.py`` has pytest run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import broken_plans
import broken_workers
import pytest
from broken_plans import Broken
from odd_providers import FireAndForget, StartsLate, StartsTwice

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.base import Provider
from lambdaml_core.provider.local import LocalProvider
from lambdaml_core.testing.provider import ProviderLaws

BROKEN: list[type[Any]] = [
    each
    for module in (broken_plans, broken_workers)
    for each in vars(module).values()
    if isinstance(each, type)
    and issubclass(each, Broken)
    and each.__module__ == module.__name__
    and "law" in vars(each)
]


class _Importable(ProviderLaws):
    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Workers import the provider, which is not installed."""
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class TestFireAndForget(_Importable):
    cancels = False
    logs_s = 0.1

    @pytest.fixture
    def provider(self) -> Provider:
        return FireAndForget(NoOptions())


class TestStartsTwice(_Importable):
    @pytest.fixture
    def provider(self) -> Provider:
        return StartsTwice(NoOptions())


class TestStartsLate(_Importable):
    @pytest.fixture
    def provider(self) -> Provider:
        return StartsLate(NoOptions())


def _suite(broken: type[Any]) -> type[ProviderLaws]:
    class Suite(_Importable):
        @pytest.fixture
        def provider(self) -> Provider:
            options: Any = NoOptions()
            if issubclass(broken, LocalProvider):
                options = LocalOptions()
            if broken is broken_plans.TakesAnyNumber:
                options = broken_plans.AnyMemory()
            built: Provider = broken(options)
            return built

    for name, value in broken.settings.items():
        setattr(Suite, name, value)
    return Suite


globals().update({f"Test{each.__name__}": _suite(each) for each in BROKEN})
