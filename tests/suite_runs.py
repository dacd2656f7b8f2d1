"""Conformance suites run as an author's would, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Outcomes = dict[tuple[str, str], set[str]]
"""By (class name, law): ``passed``, ``failure``, ``skipped`` or ``error``, all parameters of the law together."""

_TURNS = 3

LIMIT_S = 1800
"""For tests that run many laws: hundreds of seconds are no hang on a busy machine, and each law has its own limit."""


def run_suites(folder: Path, *tests: str | Path) -> tuple[Outcomes, str]:
    """What each law came to, and what pytest printed. ``folder`` takes the report; the tests run in one process.

    It has no limit but that of the test that calls it: a machine that is ten times slower may take it.
    """
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run(
        [*command, *map(str, tests)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr  # passed, or failed: nothing that ends the whole
    outcomes: Outcomes = defaultdict(set)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own report
        suite, law = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
        outcomes[suite, law].add(case[0].tag if len(case) else "passed")
    return outcomes, ran.stdout


def survivors(folder: Path, broken: Sequence[type[Any]], suites: Path | None = None) -> tuple[list[str], str]:
    """Broken things whose ``law`` does not fail, and what pytest printed of them. Races are not lost each time: what
    survives is tried again.

    Args:
        suites: where their test classes are, ``TestNAME``; by default where they themselves are.
    """
    files = {each: suites or sys.modules[each.__module__].__file__ for each in broken}
    survived, printed = [*broken], ""
    for turn in range(_TURNS):
        laws = [f"{files[each]}::Test{each.__name__}::{each.law}" for each in survived]
        (folder / str(turn)).mkdir()
        outcomes, printed = run_suites(folder / str(turn), "--hypothesis-profile=broken", *laws)
        survived = [each for each in survived if "failure" not in outcomes[f"Test{each.__name__}", each.law]]
        if not survived:
            break
    return [f"{each.__name__} survives {each.law}" for each in survived], printed
