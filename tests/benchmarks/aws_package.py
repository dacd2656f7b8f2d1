"""What a package for functions of AWS Lambda weighs, and how long its start takes: from the process to a worker that is
ready for an invocation, beside the import of numpy and scipy.sparse from the same package.

    python tests/benchmarks/aws_package.py [--repeat N] [--plugin lambdaml_s3]... [--runtime R] [--architecture A]

All starts are measured in turn, one process at a time, so that a busy machine slows all of them. Where runtime or
architecture is not that of this machine, sizes are all that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from lambdaml_aws_lambda.package.archive import Package
from lambdaml_aws_lambda.package.build import build
from lambdaml_aws_lambda.package.contents import contents
from lambdaml_aws_lambda.package.target import CUSTOM, Target

READY = "import awslambdaric.bootstrap, lambdaml_aws_lambda.handler"
STARTS = {
    "numpy and scipy.sparse": "import numpy, scipy.sparse",
    "ready, dense rows": READY,
    "ready, sparse rows": f"{READY}, scipy.sparse",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--plugin", action="append", default=[], help="top-level package; default: lambdaml_s3")
    parser.add_argument("--runtime", default=CUSTOM)
    parser.add_argument("--architecture", default="x86_64")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    target = Target(arguments.runtime, arguments.architecture)
    modules = ["lambdaml_core", "lambdaml_aws_lambda", *(arguments.plugin or ["lambdaml_s3"])]
    where = {"runtime": target.runtime, "architecture": target.architecture}
    began = time.perf_counter()
    package = build(contents(modules, **where), **where)
    built_s = time.perf_counter() - began
    here = target.runtime == CUSTOM and platform.machine() in target.platforms[0]
    starts = measured(package, arguments.repeat) if here else {}
    if arguments.json:
        sizes = {"zipped_bytes": package.zipped_bytes, "unzipped_bytes": package.unzipped_bytes}
        print(json.dumps({"schema": 1, **where, **sizes, "weights": package.weights, "start_s": starts}))
        return
    print(
        f"{target}: {package.zipped_bytes / 1e6:.1f} MB zipped, {package.unzipped_bytes / 1e6:.1f} MB unzipped,",
        end=" ",
    )
    print(f"built or found in {built_s:.1f} s")
    for name, size in package.weights.items():
        print(f"  {size / 1e6:7.2f} MB  {name}")
    for name, seconds in starts.items():
        print(f"  {seconds:7.3f} s   {name}, {seconds / next(iter(starts.values())):.2f} times")


def measured(package: Package, repeat: int) -> dict[str, float]:
    """Median seconds of each start, from the unpacked package, by a Python that has nothing else."""
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(package.path) as archive:
            archive.extractall(folder)
        env = {"PATH": os.defpath, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "AWS_REGION": "us-east-1"}
        for _ in range(repeat):
            for name, code in STARTS.items():
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-S", "-c", code], check=True, env=env, cwd=Path(folder))
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


if __name__ == "__main__":
    main()
