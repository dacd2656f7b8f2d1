"""All-reduce over a storage beside torch.distributed with gloo, in one run: ``python tests/benchmarks/collectives.py``.

Prints what ``lambdaml bench collectives --json`` prints, and ``gloo_s`` and ``ratio`` (gloo / ours) in each row.

``--retain BYTES`` measures instead what it costs that results stay for replacements: rounds whose frontier stays behind
by two checkpoints of ``BYTES / 2`` or 1,000 rounds, beside rounds without checkpoints, in turn by the same processes.
Means, because deletes come in bursts, and the slowest round in a hundred.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import sys
import time
from typing import Any

import numpy as np

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.comm.engine import Engine
from lambdaml_core.run.bench import bench_collectives, default_repeats, median_time, run_workers
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.layers import Prefix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="file:///dev/shm/lambdaml-bench")
    parser.add_argument("--workers", default="4,2")
    parser.add_argument("--sizes", default="1KB,1MB,40MB,100MB")
    parser.add_argument("--aggregators", default="1,all")
    parser.add_argument("--retain", type=parse_size)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for workers in map(int, args.workers.split(",")):
        for size in map(parse_size, args.sizes.split(",")):
            for k in args.aggregators.split(","):
                aggregators = workers if k == "all" else int(k)
                if args.retain is not None:
                    rows.append(_retaining(args.storage, workers, size, aggregators, args.retain))
                    print(json.dumps(rows[-1]), file=sys.stderr)
                    continue
                (row,) = bench_collectives(args.storage, workers=workers, sizes=[size], aggregators=[aggregators])
                gloo_s = gloo_seconds(workers, size)
                rows.append({**row, "gloo_s": gloo_s, "ratio": gloo_s / row["median_s"]})
                print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"schema": 1, "rows": rows}))


def _retaining(storage: str, workers: int, size: int, aggregators: int, retain: int) -> dict[str, Any]:
    prefix = f"bench-{secrets.token_hex(6)}"
    every = max(2, min(1000, retain // 2 // size))
    job = {
        "storage": storage,
        "prefix": prefix,
        "size": workers,
        "aggregators": aggregators,
        "bytes": size,
        "every": every,
    }
    times = run_workers("tests.benchmarks.collectives", job, workers)
    slowest = {name: max(t[name] for t in times) for name in times[0]}
    ratio = slowest["retained_s"] / slowest["plain_s"]
    return {"workers": workers, "bytes": size, "aggregators": aggregators, "every": every, **slowest, "ratio": ratio}


def _retaining_worker(job: dict[str, Any]) -> dict[str, float]:
    channel = Prefix(open_storage(job["storage"]), job["prefix"])
    plain, retaining = (
        Engine(channel, rank=job["rank"], size=job["size"], aggregators=job["aggregators"], generation=generation)
        for generation in range(2)
    )
    x = {"x": np.ones(job["bytes"] // 4, np.float32)}
    every = job["every"]
    times: dict[str, list[float]] = {"plain": [], "retained": []}
    for checkpoint in range(8):
        retaining.frontier = max(0, checkpoint - 1) * every
        for name, engine in (("plain", plain), ("retained", retaining)):
            for _ in range(every):
                began = time.perf_counter()
                engine.all_reduce(x)
                if checkpoint > 1:
                    times[name].append(time.perf_counter() - began)
    plain.barrier()
    if job["rank"] == 0:
        channel.delete(list(channel.list("")))
    channel.close()
    return {
        **{f"{name}_s": statistics.fmean(taken) for name, taken in times.items()},
        **{f"{name}_p99_s": sorted(taken)[len(taken) * 99 // 100] for name, taken in times.items()},
        **{f"{name}_most_s": max(taken) for name, taken in times.items()},
    }


def gloo_seconds(workers: int, size: int, repeats: int | None = None) -> float:
    """Median seconds of torch.distributed's all_reduce of ``size`` bytes of float32, of the slowest worker."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    job = {
        "bytes": size,
        "size": workers,
        "port": port,
        "repeats": repeats or default_repeats(size),
    }
    slowest: float = max(t["median_s"] for t in run_workers("tests.benchmarks.collectives", job, workers))
    return slowest


def _gloo_worker(job: dict[str, Any]) -> dict[str, float]:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(job["port"]), GLOO_SOCKET_IFNAME="lo")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=job["rank"], world_size=job["size"])
    x = torch.ones(job["bytes"] // 4)
    dist.barrier()
    median = median_time(lambda: dist.all_reduce(x), job["repeats"])
    dist.barrier()
    dist.destroy_process_group()
    return {"median_s": median}


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        job = json.loads(sys.argv[1])
        print(json.dumps((_retaining_worker if "every" in job else _gloo_worker)(job)))
    else:
        main()
