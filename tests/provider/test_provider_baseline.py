"""The pinned environment: one for all machines of an architecture, and one for all providers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambdaml_core.provider.baseline import baseline
from lambdaml_core.provider.local import worker_environment

NUMBERS = """
import json
import numpy as np
from lambdaml_core.run.worker.fingerprint import fingerprint
rng = np.random.default_rng(7)
a, b = rng.standard_normal((257, 131)), rng.standard_normal((131, 61))
sums = [(a @ b).tobytes().hex(), np.exp(a.astype(np.float32)).tobytes().hex(), float(a.sum()).hex()]
print(json.dumps([fingerprint(), sums]))
"""


def numbers(env: dict[str, str]) -> Any:
    command = [sys.executable, "-W", "error", "-c", NUMBERS]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_threads_and_hashes() -> None:
    for architecture in ("x86_64", "arm64", "aarch64", "riscv64"):
        env = baseline(architecture)
        assert env["PYTHONHASHSEED"] == "0"
        assert env["OPENBLAS_NUM_THREADS"] == env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "1"
    assert baseline("arm64") == baseline("aarch64")
    assert set(baseline("riscv64")) < set(baseline("arm64")) < set(baseline("x86_64"))


def test_everything_above_avx2_that_numpy_knows_is_off_wherever_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    disabled = baseline("x86_64")["NPY_DISABLE_CPU_FEATURES"].split()
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    known = [*simd["baseline"], *simd["found"], *simd["not found"]]
    beyond = [name for name in known if name.startswith("AVX512") or name in ("X86_V4", "AVX10")]
    assert sorted(disabled) == sorted(beyond) or platform.machine() != "x86_64"
    monkeypatch.setattr("platform.machine", lambda: "arm64")  # as for functions with other processors than the laptop's
    assert set(baseline("x86_64")["NPY_DISABLE_CPU_FEATURES"].split()) >= set(disabled)


def test_functions_compute_what_local_workers_compute() -> None:
    """With nothing of this process's environment but where to find the code."""
    local = numbers(worker_environment())
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": worker_environment()["PYTHONPATH"]}
    assert numbers(bare | dict(baseline(platform.machine()))) == local


def test_what_was_switched_off_before_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "FMA4, XOP")
    once = worker_environment()
    assert once["NPY_DISABLE_CPU_FEATURES"].split()[:2] == ["FMA4", "XOP"]
    for name, value in once.items():
        monkeypatch.setenv(name, value)
    assert worker_environment() == once


def test_an_old_processor_is_not_asked_for_more_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "flags : fpu sse sse2 ssse3 sse4_2\n")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES", raising=False)
    env = worker_environment()
    assert "OPENBLAS_CORETYPE" not in env
    assert "NPY_DISABLE_CPU_FEATURES" not in env
