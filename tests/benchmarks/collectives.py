"""All-reduce over a storage beside torch.distributed with gloo, in one run: ``python tests/benchmarks/collectives.py``.

Prints what ``lambdaml bench collectives --json`` prints, and ``gloo_s`` and ``ratio`` (gloo / ours) in each row.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from typing import Any

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.run.bench import bench_collectives, default_repeats, median_time, run_workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="file:///dev/shm/lambdaml-bench")
    parser.add_argument("--workers", default="4,2")
    parser.add_argument("--sizes", default="1KB,1MB,40MB,100MB")
    parser.add_argument("--aggregators", default="1,all")
    args = parser.parse_args()
    rows = []
    for workers in map(int, args.workers.split(",")):
        for size in map(parse_size, args.sizes.split(",")):
            for k in args.aggregators.split(","):
                aggregators = workers if k == "all" else int(k)
                (row,) = bench_collectives(args.storage, workers=workers, sizes=[size], aggregators=[aggregators])
                gloo_s = _gloo(workers, size)
                rows.append({**row, "gloo_s": gloo_s, "ratio": gloo_s / row["median_s"]})
                print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"schema": 1, "rows": rows}))


def _gloo(workers: int, size: int) -> float:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    job = {
        "bytes": size,
        "size": workers,
        "port": port,
        "repeats": default_repeats(size),
    }
    return max(t["median_s"] for t in run_workers("tests.benchmarks.collectives", job, workers))


def _gloo_worker(job: dict[str, Any]) -> dict[str, float]:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(job["port"]), GLOO_SOCKET_IFNAME="lo")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=job["rank"], world_size=job["size"])
    x = torch.zeros(job["bytes"] // 4)
    dist.barrier()
    median = median_time(lambda: dist.all_reduce(x), job["repeats"])
    dist.barrier()
    dist.destroy_process_group()
    return {"median_s": median}


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(_gloo_worker(json.loads(sys.argv[1]))))
    else:
        main()
