"""What the project's files as a whole must keep to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Written with character classes, so that this file does not hold the words that it looks for.
FORBIDDEN = {
    "the host of a package registry": re.compile(
        r"pypi[.]org|python[h]osted|registry[.]npmjs|deb[.]debian[.]org|crates[.]io|proxy[.]golang"
    ),
    "a path of one machine": re.compile(r"(?<![\w.*-])/(work|tmp/w)(?![\w-])"),
    "a document that is not part of the project": re.compile(r"shared/(design|contracts|facts|parts)|[.]{2}/shared"),
}


def project_files() -> list[Path]:
    """Every file that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_mentions(what: str) -> None:
    files = project_files()
    assert ROOT / "lambdaml_core" / "errors.py" in files
    found = [f"{f.relative_to(ROOT)}: {m[0]}" for f in files for m in FORBIDDEN[what].finditer(_text(f))]
    assert not found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("the host of a package registry", "see https://pypi" + ".org/project/x"),
        ("a path of one machine", "cd /" + "work/main"),
        ("a path of one machine", "the archive in /" + "tmp/w/x.tar.gz"),
        ("a document that is not part of the project", "see shared/" + "design.md"),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_no_source_file_is_over_400_lines() -> None:
    long = {f.name: n for f in project_files() if f.suffix == ".py" and (n := _text(f).count("\n")) > 400}
    assert not long


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
