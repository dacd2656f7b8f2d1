"""All-reduce over every storage that has a server, beside gloo: ``python tests/benchmarks/storages.py``.

Starts each server itself, as tests do (``tests/run`` installs them; put its ``.venv/servers/servers`` on ``PATH``),
and prints a table, or with ``--json`` what ``collectives.py`` prints. ``raw`` moves the same bytes with no waiting.
A storage and gloo are measured one after the other, so that ratios can be trusted where seconds cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from collectives import gloo_seconds

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.cli.output import print_table
from lambdaml_core.run.bench import bench_collectives
from lambdaml_dynamodb.testing import dynamodb_server
from lambdaml_memcached.testing import memcached_server
from lambdaml_redis.testing import redis_server, valkey_server
from lambdaml_s3.testing import s3_server

SERVERS: Mapping[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "redis": redis_server,
    "redis+unix": lambda: redis_server(unix=True),
    "valkey": valkey_server,
    "valkey+unix": lambda: valkey_server(unix=True),
    "memcached": lambda: memcached_server(memory_mb=4096),
    "memcached+unix": lambda: memcached_server(memory_mb=4096, unix=True),
    "s3": s3_server,
    "dynamodb": dynamodb_server,
}
FILE = "file:///dev/shm/lambdaml-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storages", default=",".join(["file", *SERVERS]))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--sizes", default="1KB,1MB,40MB")
    parser.add_argument("--aggregators", default="1,all")
    parser.add_argument("--repeats", type=int, help="default: more for smaller messages")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.storages.split(","):
        for row in _measure(name, args):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    if args.json:
        print(json.dumps({"schema": 1, "rows": rows}))
        return
    print_table(
        ["storage", "bytes", "aggregators", "median ms", "raw ms", "median / raw", "gloo ms", "gloo / median"],
        [
            (
                row["server"],
                row["bytes"],
                row["aggregators"],
                row["median_s"] * 1e3,
                row["raw_s"] * 1e3,
                row["median_s"] / row["raw_s"],
                row["gloo_s"] * 1e3,
                row["ratio"],
            )
            for row in rows
        ],
    )


def _measure(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    ks = [args.workers if k == "all" else int(k) for k in args.aggregators.split(",")]
    with SERVERS.get(name, contextlib.nullcontext)() as server:
        url = FILE if server is None else server.url
        for size in map(parse_size, args.sizes.split(",")):
            gloo_s = gloo_seconds(args.workers, size, args.repeats)
            for row in bench_collectives(url, workers=args.workers, sizes=[size], aggregators=ks, repeats=args.repeats):
                yield {**row, "server": name, "gloo_s": gloo_s, "ratio": gloo_s / row["median_s"]}


if __name__ == "__main__":
    main()
