"""All suites as an author may run them: from a folder with nothing else, in parallel, in another order, warnings as
errors, two subclasses of a suite beside each other. What each law does is tested in the suite's room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from authors import pytest_of_an_author
from suite_runs import LIMIT_S

ORDER = """
    from hypothesis import settings

    settings.register_profile("few", max_examples=3, deadline=None, derandomize=True, database=None)
    settings.load_profile("few")


    def pytest_collection_modifyitems(items):
        items.reverse()
"""

TESTS = """
    from pathlib import Path

    import pytest

    from lambdaml_core.builtin import GASGDOptions, LinearOptions, LocalOptions
    from lambdaml_core.comm.patterns import aggregate
    from lambdaml_core.models.least_squares import LeastSquares
    from lambdaml_core.models.logistic import LogisticRegression
    from lambdaml_core.optim.ga_sgd import GASGD
    from lambdaml_core.provider.local import LocalProvider
    from lambdaml_core.testing.model import ModelLaws
    from lambdaml_core.testing.optimizer import OptimizerLaws
    from lambdaml_core.testing.pattern import PatternLaws
    from lambdaml_core.testing.plugin import PluginLaws
    from lambdaml_core.testing.provider import ProviderPlanLaws
    from lambdaml_core.testing.storage import StorageLaws


    class TestModel(ModelLaws):
        @pytest.fixture
        def model(self) -> LogisticRegression:
            return LogisticRegression(LinearOptions())


    class TestOtherModel(ModelLaws):
        target = "number"

        @pytest.fixture
        def model(self) -> LeastSquares:
            return LeastSquares(LinearOptions())


    class TestOptimizer(OptimizerLaws):
        @pytest.fixture
        def optimizer(self) -> GASGD:
            return GASGD(GASGDOptions())


    class TestPattern(PatternLaws):
        @pytest.fixture
        def pattern(self):
            return aggregate


    class TestPlugin(PluginLaws):
        @pytest.fixture
        def distribution(self) -> str:
            return "lambdaml"


    class TestProvider(ProviderPlanLaws):
        @pytest.fixture
        def provider(self) -> LocalProvider:
            return LocalProvider(LocalOptions())


    class TestStorage(StorageLaws):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"memory://{tmp_path.name}-{type(self).__name__}"


    class TestOtherStorage(TestStorage):
        pass
"""


@pytest.mark.timeout(LIMIT_S)
def test_suites_run_beside_each_other_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("\n".join(line[4:] for line in ORDER.splitlines()))
    ran = pytest_of_an_author(tmp_path, TESTS, "-q", "-n", "2", "-k", "not crashes")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"\d+ passed, \d+ skipped in ", ran.stdout), ran.stdout
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"pytest.ini", "conftest.py", "test_author.py", "__pycache__", ".hypothesis"}
