"""How long a worker takes from its process's start to its first round, beside the import of numpy and scipy.sparse.

    python tests/benchmarks/startup.py [--repeat N] [--sparse] [--json]

Both are measured in turn, one process at a time, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy import sparse

from lambdaml_core.provider.local import worker_environment
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job

IMPORT = [sys.executable, "-c", "import numpy, scipy.sparse"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--sparse", action="store_true", help="rows that need scipy")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 20))
    rows = sparse.csr_matrix(x) if arguments.sparse else x
    imports, workers = [], []
    with tempfile.TemporaryDirectory() as store:
        job = Job.from_mapping({"store": store, "workers": 1, "rounds": 1})
        for _ in range(arguments.repeat):
            begin = time.perf_counter()
            subprocess.run(IMPORT, check=True, env=worker_environment())
            imports.append(time.perf_counter() - begin)
            seconds = run_job(job, arrays=(rows, x[:, 0] > 0))["seconds"]
            workers.append(seconds["start"] + seconds["load"])
    import_s, worker_s = statistics.median(imports), statistics.median(workers)
    figures = {"import_s": import_s, "worker_s": worker_s, "ratio": worker_s / import_s}
    if arguments.json:
        print(json.dumps({"schema": 1, "sparse": arguments.sparse, **figures}))
    else:
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
