"""What holds for all suites: no law is overridden in silence, and each says what holds, why, and what to fix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from authors import pytest_of_an_author
from kit_suites import SUITES

from lambdaml_core import testing
from lambdaml_core.testing.base import Laws, doc_of, laws_of
from lambdaml_core.testing.plugin import PluginLaws

LAWS = [(suite, law) for suite in SUITES for law in laws_of(suite)]


def test_the_suites_are_those_that_the_kit_names() -> None:
    assert {suite.__name__ for suite in SUITES} == {
        "StorageLaws",
        "UnreachableStorageLaws",
        "PatternLaws",
        "OptimizerLaws",
        "ModelLaws",
        "RowFormatLaws",
        "TableFormatLaws",
        "ProviderPlanLaws",
        "ProviderLaws",
        "PluginLaws",
    }
    assert testing.__doc__
    modules = {suite.__module__.rpartition(".")[2] for suite in SUITES}
    assert all(f"``{module}``" in testing.__doc__ for module in modules)


@pytest.mark.parametrize(("suite", "law"), LAWS, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_a_law_says_what_holds_and_what_to_fix(suite: type[Laws], law: str) -> None:
    says, _, more = doc_of(suite, law).partition("\n")
    assert says
    assert re.search(r"\b[Ff]ix\b", more), "what is its author to do when it fails?"


def test_a_law_is_not_overridden_in_silence() -> None:
    with pytest.raises(
        TypeError, match=r"Mine overrides the law test_it_is_found: .* pytest\.mark\.xfail\(reason=\.\.\.\)"
    ):

        class Mine(PluginLaws):
            def test_it_is_found(self) -> None:  # type: ignore[override]
                pass


def test_a_law_is_not_switched_off_in_silence() -> None:
    with pytest.raises(TypeError, match="overrides the law"):

        class Off(PluginLaws):
            test_it_is_found = None  # type: ignore[assignment]


def test_a_law_is_not_overridden_by_another_base() -> None:
    class Quiet:
        def test_it_is_found(self) -> None:
            pass

    with pytest.raises(TypeError, match="Mine overrides the law test_it_is_found"):

        class Mine(Quiet, PluginLaws):  # type: ignore[misc]
            pass


def test_an_excuse_has_a_reason() -> None:
    with pytest.raises(TypeError, match="overrides the law"):

        class Mine(PluginLaws):
            @pytest.mark.xfail
            def test_it_is_found(self) -> None:  # type: ignore[override]
                pass


AUTHOR = """
    import pytest

    from lambdaml_core.testing.plugin import PluginLaws


    class Base(PluginLaws):
        @pytest.fixture
        def distribution(self) -> str:
            return "lambdaml-nobody-has-this"

        @pytest.mark.xfail(reason="it comes with the next version")
        def test_the_dependency_on_lambdaml_is_bounded(self, distribution):
            super().test_the_dependency_on_lambdaml_is_bounded(distribution)

        def test_of_the_author(self, distribution: str) -> None:
            assert not distribution


    class TestMine(Base):
        pass
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return pytest_of_an_author(tmp_path_factory.mktemp("author"), AUTHOR, "-ra", "--tb=short").stdout


def test_an_excused_override_is_shown_with_its_reason(printed: str) -> None:
    assert "XFAIL test_author.py::TestMine::test_the_dependency_on_lambdaml_is_bounded - it comes with" in printed


def test_a_failed_law_shows_the_values_and_its_own_words_once(printed: str) -> None:
    assert "E   AssertionError: lambdaml-nobody-has-this is not installed, or has no entry point" in printed
    assert "E   assert []" in printed  # which only rewritten assertions say
    assert printed.count("the law test_it_is_found") == 1
    assert printed.count("Plugins are found by nothing else. Fix ``[project.entry-points.lambdaml]``") == 1


def test_a_failed_law_whose_source_is_shown_has_its_words_there(tmp_path: Path) -> None:
    printed = pytest_of_an_author(tmp_path, AUTHOR, "-k", "test_it_is_found").stdout
    assert printed.count("Plugins are found by nothing else.") == 1


def test_a_failed_test_of_the_authors_own_is_reported_as_ever(printed: str) -> None:
    assert "FAILED test_author.py::TestMine::test_of_the_author" in printed
    assert "the law test_of_the_author" not in printed


LIGHT = """
    import sys


    def test_what_is_imported() -> None:
        heavy = {"numpy", "scipy", "hypothesis", "click", "lambdaml_core.specs", "lambdaml_core.testing.storage"}
        assert "lambdaml_core.testing.pytest_plugin" in sys.modules
        assert not heavy & set(sys.modules)
"""


def test_a_pytest_without_laws_imports_nothing_for_them(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, LIGHT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
