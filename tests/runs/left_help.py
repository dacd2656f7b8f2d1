"""What a run may leave, and what it may not."""

from __future__ import annotations

from pathlib import Path

from child_processes import children
from runs_help import files_below, scratch_of

from lambdaml_core.run.driver.remote import clean


def check_and_clean(folder: Path, name: str) -> None:
    """No process, no directory of messages, and after cleaning no file."""
    assert children() == []
    assert files_below(Path(f"{folder}-channel")) == []
    assert not scratch_of(name).exists()
    assert clean(f"file://{folder}") == [name]
    assert files_below(folder) == []
