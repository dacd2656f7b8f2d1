"""Rounds over a slow network beside the formulas: ``python tests/benchmarks/cost_model.py``.

The network is that of the fault layer around ``memory://``: 80 ms for every request and 65 MB/s for each of c
connections, as S3 in Jiang et al., SIGMOD 2021. Workers are threads of one process, since they sleep nearly always.
Prints a row for each case; seconds are medians, of the slowest worker of a round:

- ``formula_s``: theirs for a leader, (w + 2) (m/B + L), and for ScatterReduce, (3w - 2) ((m/w)/B + L), between these
  what follows for any number of aggregators; of c connections n requests take ceil(n/c) turns;
- ``predicted_s``: the same for messages cut as the engine cuts them (``lambdaml_core.comm.cost``);
- ``ratio`` (measured / formula), and ``to_predicted`` (measured / predicted).
"""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import numpy as np

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.comm.cost import predict
from lambdaml_core.comm.engine import Engine
from lambdaml_core.storage import open_storage

_ONE_CHUNK = 1 << 40
CASES = ((4, "224B"), (10, "224B"), (4, "12MB"), (10, "12MB"), (4, "89MB"))


class Row(TypedDict):
    """One case."""

    workers: int
    bytes: int
    aggregators: int
    connections: int
    median_s: float
    formula_s: float
    predicted_s: float
    ratio: float
    to_predicted: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.08, help="seconds")
    parser.add_argument("--bandwidth", type=float, default=65e6, help="bytes per second of a connection")
    args = parser.parse_args()
    rows = []
    for connections, (workers, size) in itertools.product(map(int, args.connections.split(",")), CASES):
        for aggregators in sorted({1, round(workers**0.5), workers}):
            row = measure(
                workers, parse_size(size), aggregators, connections, args.latency, args.bandwidth, args.rounds
            )
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    print(json.dumps({"schema": 1, "rows": rows}))


def measure(
    workers: int,
    nbytes: int,
    aggregators: int,
    connections: int,
    latency_s: float,
    bytes_per_s: float,
    rounds: int,
) -> Row:
    """Rounds that all workers begin at once, beside the formulas."""
    url = (
        f"fault+memory://cost-{secrets.token_hex(6)}?fault_latency_s={latency_s}&fault_bytes_per_s={bytes_per_s}"
        f"&fault_parallel={connections}"
    )
    channels = [open_storage(url) for _ in range(workers)]
    caps = channels[0].caps
    together = threading.Barrier(workers)

    def work(rank: int) -> list[tuple[float, float]]:
        engine = Engine(channels[rank], rank=rank, size=workers, aggregators=aggregators)
        x = {"x": np.ones(nbytes // 4, np.float32)}
        times = []
        for _ in range(rounds):
            together.wait()
            began = time.perf_counter()
            engine.all_reduce(x)
            times.append((began, time.perf_counter()))
        engine.close()
        return times

    with ThreadPoolExecutor(workers) as pool:
        times = list(pool.map(work, range(workers)))
    channels[0].delete(list(channels[0].list("")))
    for channel in channels:
        channel.close()
    took = [max(end for _, end in one) - min(began for began, _ in one) for one in zip(*times, strict=True)]
    median_s = statistics.median(took)
    formula_s, predicted_s = (
        predict(caps, size=workers, aggregators=aggregators, nbytes=nbytes, chunk_bytes=chunk_bytes).seconds
        for chunk_bytes in (_ONE_CHUNK, None)
    )
    return Row(
        workers=workers,
        bytes=nbytes,
        aggregators=aggregators,
        connections=connections,
        median_s=median_s,
        formula_s=formula_s,
        predicted_s=predicted_s,
        ratio=median_s / formula_s,
        to_predicted=median_s / predicted_s,
    )


if __name__ == "__main__":
    main()
