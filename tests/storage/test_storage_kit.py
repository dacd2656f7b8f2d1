"""The kit itself: every law fails a storage that breaks it, and none fails a correct one of unusual shape.

The suites run as an author's would, in a pytest of their own.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import broken_many
import broken_values
import pytest
from broken_base import Broken

from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws

HERE = Path(__file__).parent
BROKEN = [each for each in Broken.__subclasses__() if each.__module__ in (broken_values.__name__, broken_many.__name__)]
LAWS = {name for suite in (StorageLaws, UnreachableStorageLaws) for name in dir(suite) if name.startswith("test_")}

Outcomes = dict[tuple[str, str], set[str]]


def run_suites(folder: Path, *tests: str) -> tuple[Outcomes, str]:
    """What each law, by class and name, came to, all its parameters together; and what pytest printed."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    printed = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, timeout=240)
    outcomes: Outcomes = defaultdict(set)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own report
        suite, law = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
        outcomes[suite, law].add(case[0].tag if len(case) else "passed")
    return outcomes, printed.stdout


@pytest.fixture(scope="module")
def broken_outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    tests = [f"{HERE / broken.__module__}.py::Test{broken.__name__}::{broken.law}" for broken in BROKEN]
    return run_suites(tmp_path_factory.mktemp("broken"), *tests)[0]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.__name__}-{broken.law}")
def test_a_broken_storage_fails_the_law_it_breaks(broken: type[Broken], broken_outcomes: Outcomes) -> None:
    assert "failure" in broken_outcomes[f"Test{broken.__name__}", broken.law]


def test_every_law_is_broken_by_some_storage() -> None:
    assert {broken.law for broken in BROKEN} == LAWS


def test_a_minimal_storage_passes_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    outcomes, printed = run_suites(tmp_path, str(HERE / "odd_storages.py"))
    assert {law for _, law in outcomes} == LAWS
    lacking = {law for (_, law), came_to in outcomes.items() if came_to != {"passed"}}
    assert lacking == {
        "test_list_gives_exactly_the_keys_with_the_prefix",
        "test_list_is_complete",
        "test_listing_can_be_deleted",
        "test_what_is_listed_can_be_read",
        "test_a_wait_ends",
        "test_a_wait_ends_when_the_value_comes",
        "test_a_wait_is_for_any_of_the_keys",
        "test_all_who_wait_are_woken",
    }
    assert all(outcomes["TestSqliteStorage", law] == {"skipped"} for law in lacking)
    assert "caps.blocks not declared" in printed
    assert "SupportsList not implemented" in printed
