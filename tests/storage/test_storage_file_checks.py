"""file:// looks after its directory for doctor, and leaves nothing there."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lambdaml_core.findings import Finding, SupportsChecks
from lambdaml_core.storage import build_storage
from lambdaml_core.storage.mounts import file_system


def look(folder: Path) -> dict[str, Finding]:
    storage = build_storage(folder.as_uri())
    assert isinstance(storage, SupportsChecks)
    return {finding.what: finding for finding in storage.checks()}


@contextmanager
def few_descriptors() -> Iterator[None]:
    """As where a user's inotify instances are used up: the kernel gives no more (EMFILE)."""
    gc.collect()  # what other tests have left could give descriptors back meanwhile
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("folder", ["there", "not/yet/there"])
def test_a_good_directory(tmp_path: Path, folder: str) -> None:
    (tmp_path / "there").mkdir()
    found = look(tmp_path / folder)
    assert {what: finding.state for what, finding in found.items()} == {"directory": "ok", "waiting": "ok"}
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("folder", ["/", "/dev/shm", "/proc", "/proc/self", "."])  # noqa: S108
def test_the_file_system_is_named(folder: str) -> None:
    command = ["df", "--output=fstype", folder]
    types = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert file_system(Path(folder)) == types[-1]
    assert file_system(Path(folder, "not", "yet", "there")) == types[-1]


def test_doctor_is_told_the_file_system() -> None:
    folder = Path("/dev/shm")  # noqa: S108  (nothing is left there)
    assert look(folder)["directory"].values == {"file_system": file_system(folder)}


def test_what_is_in_the_way_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (finding,) = look(tmp_path / "file" / "below").values()
    assert (finding.what, finding.state) == ("directory", "problem")
    assert str(tmp_path / "file") in finding.said
    assert "choose another directory" in str(finding.remedy)


def test_waiting_without_inotify_is_said(tmp_path: Path) -> None:
    from lambdaml_core.storage.file_checks import _waking

    with few_descriptors():
        finding = _waking()
    assert finding.state == "warning"
    assert "inotify" in finding.said
    assert "max_user_instances" in str(finding.remedy)


def test_a_worker_does_not_import_them(tmp_path: Path) -> None:
    script = f"""
import sys
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage
reference = Reference("storage", "file", "lambdaml_core.storage.file:FileStorage", "lambdaml_core.builtin:FileOptions")
open_storage({tmp_path.as_uri()!r}, reference).put("k", [b"x"])
print(sorted({{"lambdaml_core.findings", "lambdaml_core.storage.file_checks", "tempfile"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
