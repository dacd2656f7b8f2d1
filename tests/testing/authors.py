"""What an author has: a folder of its own with tests and strict settings, and pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SETTINGS = """
    [pytest]
    addopts = --strict-markers --strict-config -p no:cacheprovider
    filterwarnings = error
    xfail_strict = true
"""


def pytest_of_an_author(folder: Path, tests: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Write the tests into the folder and run pytest there, with these words on its command line."""
    (folder / "pytest.ini").write_text(textwrap.dedent(SETTINGS))
    (folder / "test_author.py").write_text(textwrap.dedent(tests))
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
