"""The suites as ``lambdaml plugins check`` runs them: as an author's test file, with what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lambdaml_core.comm.base import Pattern
from lambdaml_core.models.base import Model
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.provider.base import Provider
from lambdaml_core.storage.base import Storage
from lambdaml_core.testing.check.place import Place, Room
from lambdaml_core.testing.model import ModelLaws
from lambdaml_core.testing.optimizer import OptimizerLaws
from lambdaml_core.testing.pattern import PatternLaws
from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_core.testing.provider import ProviderLaws, ProviderPlanLaws
from lambdaml_core.testing.storage import StorageLaws

Build = Callable[[], Any]
"""Builds what was asked for, anew."""


class TestStorage(StorageLaws):
    """A live storage: each law has an empty part of it. What other processes put, the laws announce to this one."""

    @pytest.fixture
    def room(self, place: Place) -> Iterator[Room]:
        with place.room() as room:
            yield room

    @pytest.fixture
    def url(self, place: Place) -> str:
        return place.url

    @pytest.fixture
    def prefix(self, room: Room) -> str:
        return room.prefix

    @pytest.fixture
    def connect(self, room: Room) -> Callable[[], Storage]:
        return room.connect


class TestPlugin(PluginLaws):
    """The distribution that the plugin came with."""

    @pytest.fixture
    def distribution(self, asked: Mapping[str, Any]) -> str:
        return str(asked["distribution"])


class TestOptimizer(OptimizerLaws):
    """On the model and the rows that the suite has."""

    @pytest.fixture
    def optimizer(self, build: Build) -> Optimizer:
        optimizer: Optimizer = build()
        return optimizer


class TestModel(ModelLaws):
    """On the labels that its record states."""

    @pytest.fixture
    def model(self, build: Build, asked: Mapping[str, Any]) -> Model:
        type(self).target = asked["target"]
        model: Model = build()
        return model


class TestPattern(PatternLaws):
    """A pattern is a function, and not built."""

    @pytest.fixture
    def pattern(self, load: Build) -> Pattern:
        pattern: Pattern = load()
        return pattern


class TestProviderPlan(ProviderPlanLaws):
    """Nothing is started."""

    @pytest.fixture
    def provider(self, build: Build) -> Provider:
        provider: Provider = build()
        return provider


class TestProvider(ProviderLaws):
    """Workers are started."""

    @pytest.fixture
    def provider(self, build: Build) -> Provider:
        provider: Provider = build()
        return provider

    @pytest.fixture
    def store(self, provider: Provider, job: Mapping[str, Any], tmp_path: Path) -> str:
        if provider.plan(job)["scope"] == "network":
            pytest.skip("no store that workers on other machines reach: its author's tests have one")
        return f"file://{tmp_path}/store"
