"""The real package for linear models, made of real wheels, run by a Python that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lambdaml_aws_lambda.package.archive import Package
from lambdaml_aws_lambda.package.build import build
from lambdaml_aws_lambda.package.contents import contents
from lambdaml_aws_lambda.package.target import CUSTOM
from lambdaml_core.registry import default_registry

HOLDS = contents(["lambdaml_core", "lambdaml_aws_lambda"], runtime=CUSTOM)


@pytest.fixture(scope="module")
def package() -> Package:
    return build(HOLDS, runtime=CUSTOM, architecture="x86_64")


@pytest.fixture(scope="module")
def task(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that AWS unpacks a package in."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(package.path) as archive:
        archive.extractall(folder)
    return folder


def run(task: Path, code: str, words: Sequence[str] = ()) -> Any:
    """Run code on this Python without its site packages and with an empty environment; gives what it prints as JSON."""
    env = {"PATH": os.defpath, "PYTHONPATH": str(task), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-P", "-W", "error", "-c", code, *words]
    done = subprocess.run(command, env=env, cwd=task.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_as_small_as_promised_and_says_what_weighs(package: Package) -> None:
    assert package.zipped_bytes <= 70_000_000
    assert package.unzipped_bytes <= 200_000_000
    assert list(package.weights)[:2] == ["scipy", "numpy"]
    assert HOLDS.distributions.keys() | {"awslambdaric"} <= package.weights.keys()


def test_it_begins_with_the_client_that_fetches_invocations(package: Package, task: Path) -> None:
    with zipfile.ZipFile(package.path) as archive:
        info = archive.getinfo("bootstrap")
        assert (info.external_attr >> 16) & 0o111
        assert b'exec python3 -m awslambdaric "$_HANDLER"' in archive.read(info)
    assert run(task, "import awslambdaric.bootstrap, runtime_client; print('true')") is True


def test_whatever_of_ours_a_job_may_name_is_imported_from_it(task: Path) -> None:
    kinds = {"storage", "storage_layer", "communicator", "optimizer", "model"}
    specs = [spec for info, spec in default_registry().records() if info.distribution == "lambdaml" and spec]
    modules = {spec.factory.partition(":")[0] for spec in specs if spec.kind in kinds}
    names = sorted({*modules, "lambdaml_aws_lambda.handler", "lambdaml_aws_lambda.client"})
    assert len(names) > 8
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "files = {n: m.__file__ for n, m in sys.modules.items() if getattr(m, '__file__', None)}\n"
        "caches = {n: getattr(sys.modules[n], '__cached__', None) for n in files if files[n].endswith('.py')}\n"
        "print(json.dumps([files, caches]))"
    )
    files, caches = run(task, code, names)
    inside = {name: file for name, file in files.items() if file.startswith(str(task))}
    assert not files.keys() & {"click", "rich", "pluggy", "pip", "packaging", "scipy", "lambdaml_core.cli"}
    assert not [file for name, file in files.items() if name not in inside and "site-packages" in file]
    assert not [name for name in inside if name in caches and not Path(str(caches[name])).exists()], "without bytecode"


def test_numpy_scipy_and_boto3_work_without_what_was_cut_out(task: Path) -> None:
    code = """
import json
import boto3, numpy as np, numpy.testing, scipy.linalg, scipy.sparse.csgraph, scipy.special
from scipy.optimize import fmin_l_bfgs_b
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.linalg import spsolve
rows = csr_matrix(np.diag([1.0, 2.0, 4.0]))
keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
print(json.dumps([
    (rows @ np.ones(3)).tolist(),
    (csc_matrix(rows).T @ np.ones(3)).tolist(),
    spsolve(rows.tocsc(), np.ones(3)).tolist(),
    fmin_l_bfgs_b(lambda x: ((x - 1) @ (x - 1), 2 * (x - 1)), np.zeros(2))[0].round(6).tolist(),
    scipy.special.expit(0.0).item(),
    scipy.linalg.solve(np.eye(2) * 2, np.ones(2)).tolist(),
    np.fft.fft(np.ones(2)).real.tolist(),
    len(np.random.default_rng(0).normal(size=3)),
    [boto3.client(name, **keys).meta.service_model.service_name for name in ("lambda", "secretsmanager")],
]))
"""
    assert run(task, code) == [
        [1.0, 2.0, 4.0],
        [1.0, 2.0, 4.0],
        [1.0, 0.5, 0.25],
        [1.0, 1.0],
        0.5,
        [0.5, 0.5],
        [2.0, 0.0],
        3,
        ["lambda", "secretsmanager"],
    ]


def test_nothing_of_this_machine_or_its_user_is_in_it(package: Package) -> None:
    with zipfile.ZipFile(package.path) as archive:
        ours = [name for name in archive.namelist() if name.startswith("lambdaml_")]
        data = b"".join(archive.read(name) for name in ours)
    assert not [name for name in ours if "/cli/" in name or "/testing" in name or "/tests/" in name]
    assert str(Path.home()).encode() + b"/" not in data
    assert str(HOLDS.sources["lambdaml_core"]).encode() not in data
