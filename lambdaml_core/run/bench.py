"""How long collectives take over a storage, beside the same bytes moved with no coordination.

Each worker is a fresh process, pinned as a worker of a run is. ``raw`` makes the requests of one collective on keys of
its own, so that nobody waits for anybody: what the storage and the machine can do.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.engine import Engine
from lambdaml_core.comm.layout import Layout
from lambdaml_core.comm.planner import chunk_length
from lambdaml_core.errors import NotSupported, RunError
from lambdaml_core.provider.local import worker_environment
from lambdaml_core.run.driver.preflight import try_place
from lambdaml_core.run.driver.scratch import local_channel
from lambdaml_core.run.spec import Place
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, StorageURL, open_storage, storage_reference
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.layers import Prefix

_WARM_UP = 3


class Row(TypedDict):
    """One measurement; seconds are medians over repetitions, of the slowest worker."""

    op: str
    aggregators: int
    storage: str
    workers: int
    bytes: int
    median_s: float
    raw_s: float


def bench_collectives(
    storage: str | None, *, workers: int, sizes: Sequence[int], aggregators: Sequence[int], repeats: int | None = None
) -> Iterator[Row]:
    """Time all_reduce of float32 messages of ``sizes`` bytes.

    Args:
        aggregators: each K to measure.
        storage: URL of a channel, where a random prefix is used and removed; None = a fresh directory on tmpfs.
        repeats: repetitions of each; None = more for smaller messages.

    Raises:
        StorageError: it cannot be used; before any worker is started.
        RunError: a worker failed; the message has its last line.
    """
    if storage is None:
        url = local_channel(f"bench-{secrets.token_hex(6)}", workers, max(sizes))
        try:
            yield from bench_collectives(url, workers=workers, sizes=sizes, aggregators=aggregators, repeats=repeats)
        finally:
            shutil.rmtree(StorageURL.parse(url).path)
        return
    reference = storage_reference(storage, channel=True)
    try_place(Place(storage, reference), "channel", f"bench-{secrets.token_hex(6)}")
    for size, k in itertools.product(sizes, aggregators):
        yield _measure(storage, reference, workers, size, k, repeats)


def _measure(storage: str, reference: Reference, workers: int, size: int, aggregators: int, repeats: int | None) -> Row:
    prefix = f"bench-{secrets.token_hex(6)}"
    job = {
        "storage": storage,
        "reference": asdict(reference),  # with that of a storage within a layer
        "prefix": prefix,
        "size": workers,
        "aggregators": aggregators,
        "bytes": size,
        "repeats": repeats or default_repeats(size),
    }
    left: list[str] = []
    try:
        times = run_workers("lambdaml_core.run.bench", job, workers)
        left = [key for t in times for key in t["left"]]
    finally:
        _sweep(storage, reference, prefix, left)
    return Row(
        op="all_reduce",
        aggregators=aggregators,
        storage=str(StorageURL.parse(storage)),
        workers=workers,
        bytes=size,
        median_s=max(t["median_s"] for t in times),
        raw_s=max(t["raw_s"] for t in times),
    )


def default_repeats(size: int) -> int:
    """More for smaller messages, which vary more and take less."""
    return max(9, min(300, 1_200_000_000 // (size + 4_000_000)))


def run_workers(module: str, job: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    """Run ``python -m module JSON`` once per rank, side by side; returns the JSON that each prints.

    Raises:
        RunError: one failed; all are ended.
    """
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module, json.dumps({**job, "rank": rank})],
            env=worker_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(workers)
    ]
    try:
        outputs = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            raise RunError(f"a worker of the benchmark failed: {errors.strip().rpartition(chr(10))[2]}")
    return [json.loads(output) for output, _ in outputs]


def _worker(job: dict[str, Any]) -> dict[str, Any]:
    storage = Prefix(open_storage(job["storage"], Reference(**job["reference"])), job["prefix"])
    rank, size, aggregators = job["rank"], job["size"], job["aggregators"]
    x = {"x": np.ones(job["bytes"] // 4, np.float32)}  # zeros would hardly travel
    engine = Engine(storage, rank=rank, size=size, aggregators=aggregators)
    engine.barrier()
    median = median_time(lambda: engine.all_reduce(x), job["repeats"])
    raw = _Raw(storage, x["x"], rank, size, aggregators)
    engine.barrier()
    raw_median = median_time(raw.once, job["repeats"])
    engine.barrier()
    engine.close()
    storage.close()
    return {"median_s": median, "raw_s": raw_median, "left": engine.left()}


def median_time(call: Callable[[], None], repeats: int) -> float:
    """Median seconds of a call, after a warm-up."""
    times = []
    for _ in range(_WARM_UP + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[_WARM_UP:])


class _Raw:
    """The puts, gets and deletes that one rank makes in an all_reduce, on keys of its own."""

    def __init__(self, storage: FullStorage, x: NDArray[Any], rank: int, size: int, aggregators: int) -> None:
        self._storage, self._x, self._name = storage, x, f"raw-{rank}"
        layout = Layout({"x": x}, "sum", aggregators=aggregators, chunk_bytes=chunk_length(storage.caps))
        self._chunks = []
        for chunk, pieces in enumerate(layout.chunks):
            lo, hi = (pieces[0].lo, pieces[-1].hi) if pieces else (0, 0)
            owned = chunk % aggregators == rank
            self._chunks.append((lo, hi, size - 1 if owned else 1))
        self._round = 0

    def once(self) -> None:
        self._round += 1
        together = self._storage.caps.parallel  # as many chunks as the storage moves at once
        for first in range(0, len(self._chunks), together):
            self._move(first, self._chunks[first : first + together])

    def _move(self, first: int, chunks: Sequence[tuple[int, int, int]]) -> None:
        keys = {f"{self._name}/{self._round}.{number}": chunk for number, chunk in enumerate(chunks, first)}
        self._storage.put_many({key: self._data(lo, hi) for key, (lo, hi, _) in keys.items()}, if_absent=True)
        for turn in range(max(gets for _, _, gets in chunks)):
            found = self._storage.get_many([key for key, (_, _, gets) in keys.items() if gets > turn])
            for key, value in found.items():
                lo, hi, _ = keys[key]
                self._x[lo:hi] = np.frombuffer(value, np.float32)
        self._storage.delete(keys)

    def _data(self, lo: int, hi: int) -> Parts:
        return [self._x[lo:hi].data.cast("B")] if hi > lo else []


def _sweep(storage: str, reference: Reference, prefix: str, left: Sequence[str]) -> None:
    """Delete what is there; where that cannot be listed, what workers have said they left."""
    place = Prefix(open_storage(storage, reference), prefix)
    try:
        keys = list(place.list(""))
    except NotSupported:
        keys = list(left)
    place.delete(keys)
    place.close()


if __name__ == "__main__":
    print(json.dumps(_worker(json.loads(sys.argv[1]))))
