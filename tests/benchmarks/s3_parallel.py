"""What parallel transfers to S3 are worth: ``python tests/benchmarks/s3_parallel.py``.

Starts its own S3 server (SeaweedFS, which ``tests/run`` installs: put ``.venv/servers/servers`` on ``PATH``), adds
20 ms to each request, and compares one connection with 16:

- the pieces of a message, put and got through the fault layer;
- an all-reduce of 4 workers through it, also where a connection moves 57 MB/s, as S3's do;
- one large value, put and got through a proxy with such connections: whole, and in parts.

The server shares this machine's processors with the workers and hashes every value. What is taken with nothing added is
shown beside, since no number of connections makes that shorter.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TypedDict

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.cli.output import print_table
from lambdaml_core.run.bench import bench_collectives
from lambdaml_core.storage import build_storage, open_storage
from lambdaml_s3.proxy import s3_proxy
from lambdaml_s3.testing import BUCKET, S3Server, s3_server

MANY = 16
PIECE_BYTES = 2 << 20
S3_BYTES_PER_S = 57e6


class Row(TypedDict):
    """Medians in seconds: with nothing added, with one connection, with many; and how many times as quick these are."""

    what: str
    bare_s: float
    one_s: float
    many_s: float
    ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--size", default="40MB")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds added to each request")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with s3_server() as server:
        rows = [
            *_pieces(server, args),
            *(_all_reduce(server, k, 0.0, args) for k in (1, args.workers)),
            _all_reduce(server, args.workers, S3_BYTES_PER_S, args),
            *_one_value(server, args),
        ]
    if args.json:
        print(json.dumps({"schema": 1, "rows": rows}))
        return
    titles = ["what", "bare ms", "1 connection ms", f"{MANY} connections ms", "1 / many"]
    print_table(titles, [(r["what"], r["bare_s"] * 1e3, r["one_s"] * 1e3, r["many_s"] * 1e3, r["ratio"]) for r in rows])


def _pieces(server: S3Server, args: argparse.Namespace) -> Iterator[Row]:
    data = os.urandom(parse_size(args.size))
    items = {f"piece/{at}": [data[at : at + PIECE_BYTES]] for at in range(0, len(data), PIECE_BYTES)}
    with contextlib.ExitStack() as stack:
        storages = [stack.enter_context(contextlib.closing(open_storage(url))) for url in _urls(server, 0.0, args)]
        puts = [_median_s(functools.partial(s.put_many, items), args.repeats) for s in storages]
        gets = [_median_s(functools.partial(s.get_many, [*items]), args.repeats) for s in storages]
    yield _row(f"put {len(items)} pieces", *puts)
    yield _row(f"get {len(items)} pieces", *gets)


def _all_reduce(server: S3Server, aggregators: int, bytes_per_s: float, args: argparse.Namespace) -> Row:
    def seconds(url: str) -> float:
        sizes, ks = [parse_size(args.size)], [aggregators]
        (row,) = bench_collectives(url, workers=args.workers, sizes=sizes, aggregators=ks, repeats=args.repeats)
        return row["median_s"]

    what = f"all-reduce of {args.workers}, K = {aggregators}{_speed(bytes_per_s)}"
    return _row(what, *map(seconds, _urls(server, bytes_per_s, args)))


def _one_value(server: S3Server, args: argparse.Namespace) -> Iterator[Row]:
    data = os.urandom(parse_size(args.size))
    puts, gets = [], []
    with s3_proxy(server.endpoint) as proxy:
        url = server.url_of(f"{BUCKET}/value", proxy.endpoint)
        for latency_s, bytes_per_s, parallel in ((0, 0, 1), *((args.latency, S3_BYTES_PER_S, n) for n in (1, MANY))):
            proxy.latency_s, proxy.bytes_per_s = latency_s, bytes_per_s
            with contextlib.closing(build_storage(f"{url}&parallel={parallel}&part_bytes={5 << 20}")) as storage:
                puts.append(_median_s(functools.partial(storage.put, "value", [data]), args.repeats))
                gets.append(_median_s(functools.partial(storage.get, "value"), args.repeats))
    yield _row(f"put one value{_speed(S3_BYTES_PER_S)}", *puts)
    yield _row(f"get one value{_speed(S3_BYTES_PER_S)}", *gets)


def _urls(server: S3Server, bytes_per_s: float, args: argparse.Namespace) -> list[str]:
    """As it is, with one connection, and with many."""
    url = server.url_of(f"{BUCKET}/bench")
    slow = f"fault+{url}&fault_latency_s={args.latency}&fault_bytes_per_s={bytes_per_s}"
    return [url, *(f"{slow}&fault_parallel={n}" for n in (1, MANY))]


def _median_s(work: Callable[[], object], repeats: int) -> float:
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _speed(bytes_per_s: float) -> str:
    return f", {bytes_per_s / 1e6:.0f} MB/s a connection" if bytes_per_s else ""


def _row(what: str, bare_s: float, one_s: float, many_s: float) -> Row:
    return Row(what=what, bare_s=bare_s, one_s=one_s, many_s=many_s, ratio=one_s / many_s)


if __name__ == "__main__":
    main()
