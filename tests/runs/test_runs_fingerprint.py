"""What tells two workers apart that may add numbers up differently."""

from __future__ import annotations

import subprocess
import sys

import scipy

from lambdaml_core.run.worker.fingerprint import fingerprint

_BEFORE_AND_AFTER = """
import sys
from lambdaml_core.run.worker.fingerprint import fingerprint
before = fingerprint()
assert "scipy" not in sys.modules
import scipy.optimize
assert fingerprint() == before
"""


def test_a_process_that_has_imported_more_is_no_other() -> None:
    subprocess.run([sys.executable, "-c", _BEFORE_AND_AFTER], check=True)
    assert fingerprint()["scipy"] == scipy.__version__
