"""What lambdaml-acme provides keeps the laws."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdaml_acme.plugin import SignSGDOptions
from lambdaml_acme.signsgd import SignSGD
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.testing.optimizer import OptimizerLaws
from lambdaml_core.testing.plugin import PluginLaws
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws


class TestDistribution(PluginLaws):
    @pytest.fixture
    def distribution(self) -> str:
        return "lambdaml-acme"


class TestSqlite(StorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite://{tmp_path}/values.db"


class TestSqliteThatIsNotThere(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite://{tmp_path}/nowhere/values.db"


class TestSignSGD(OptimizerLaws):
    @pytest.fixture
    def optimizer(self) -> Optimizer:
        return SignSGD(SignSGDOptions())
