"""A worker's start is paid for: what it may import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs_help import ROOT, cancer, make_job
from scipy import sparse

from lambdaml_core.run.driver.driver import run_job

AT_THE_END = """
import atexit, json, sys
from pathlib import Path

def note():
    if "lambdaml_core.run.worker.worker" in sys.argv[0] or "worker.py" in sys.argv[0]:
        rank = json.loads(sys.argv[1])["rank"]
        Path({folder!r}, str(rank)).write_text(json.dumps(sorted(sys.modules)))

atexit.register(note)
"""


def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dense: bool) -> dict[int, set[str]]:
    """What the workers of a real run have imported when they end."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(AT_THE_END.format(folder=str(folder)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/site")
    monkeypatch.setattr("lambdaml_core.run.driver.finishing._EXIT_S", 120.0)  # none is ended before it has noted
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # measuring coverage imports much
    x, y = cancer()
    run_job(make_job(tmp_path / "store", workers=2), arrays=(x if dense else sparse.csr_matrix(x), y))
    return {int(path.name): set(json.loads(path.read_text())) for path in folder.iterdir()}


NEVER = {"click", "rich", "pluggy", "sklearn", "hypothesis", "lambdaml_core.cli", "lambdaml_core.registry", "tomllib"}


@pytest.mark.parametrize("dense", [True, False])
def test_what_a_worker_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: bool) -> None:
    by_rank = modules(tmp_path, monkeypatch, dense=dense)
    assert set(by_rank) == {0, 1}
    for rank, found in by_rank.items():
        assert not found & NEVER
        assert "numpy" in found
        assert ("scipy.sparse" in found) is not dense
        assert ("safetensors" in found) is (rank == 0)  # who writes the model


def test_the_records_need_no_numpy() -> None:
    """``lambdaml runs`` and ``show`` are quick."""
    code = "import sys, lambdaml_core.run.records.records; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=os.environ
    )
    assert done.stdout == "False\n"
