"""Data of the shape of the LambdaML paper's: ``python examples/paper/generate.py higgs --out higgs.libsvm``.

``higgs`` has 28 dense features and labels 0 and 1; ``rcv1`` 47,236 sparse ones, some 74 of them in a row, as tf-idf on
rows of length 1, and labels -1 and +1; ``yfcc`` 4,096 dense ones, not negative, as a network's hidden layer gives, and
labels -1 and +1. A linear rule tells the classes apart, with noise. Equal arguments give equal files; a name that ends
in ``.gz`` is compressed. Memory does not grow with the number of rows.

``--clusters K`` draws K such rows, and then rows that are each one of these, every value of it a few percent larger or
smaller: data that k-means finds something in.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[Any]
Sampler = Callable[[int], tuple[Array, Any]]
"""``sampler(n)`` draws n rows: which of them are of the second class (n,), and the rows, a CSR matrix."""


class Kind(NamedTuple):
    """A data set.

    Attributes:
        rows: how many are made unless told otherwise; the original has more.
        features: columns.
        labels: the words for the first and the second class.
        lowest, highest, decimals: the values that can be written.
        sampler: makes a sampler of a generator.
        block: rows made at a time, some ten MB of text.
    """

    rows: int
    features: int
    labels: tuple[bytes, bytes]
    lowest: int
    highest: int
    decimals: int
    sampler: Callable[[Generator], Sampler]
    block: int


def higgs(rng: Generator) -> Sampler:
    """Normal features; the rule is right about six rows in seven."""
    weights = rng.standard_normal(28)
    weights *= 4 / np.linalg.norm(weights)

    def sample(n: int) -> tuple[Array, Any]:
        x = rng.standard_normal((n, 28)).clip(-5, 5)
        return x @ weights + rng.logistic(size=n) > 0, csr_matrix(x)

    return sample


def rcv1(rng: Generator) -> Sampler:
    """Bags of words: a few words are in most rows and most in few (Zipf), and each leans to one of the classes."""
    features, lean = 47_236, 0.6
    common = rng.permutation(1 / np.arange(10.0, 10 + features))
    leaning = np.exp(rng.choice([-lean, lean], features))
    cumulative = [np.cumsum(p) / p.sum() for p in (common / leaning, common * leaning)]
    idf = np.log(common.sum() / common)

    def sample(n: int) -> tuple[Array, Any]:
        second = rng.random(n) < 0.5
        words = rng.negative_binomial(4, 4 / 84, n) + 1
        row = np.repeat(np.arange(n), words)
        drawn = rng.random(len(row))
        of_second = second[row]
        word = np.empty(len(row), np.int64)
        for c, of_class in enumerate((~of_second, of_second)):
            word[of_class] = np.searchsorted(cumulative[c], drawn[of_class])
        key, count = np.unique(row * features + word, return_counts=True)
        row, word = np.divmod(key, features)
        value = (1 + np.log(count)) * idf[word]
        value /= np.sqrt(np.bincount(row, value**2))[row]
        return second, csr_matrix((value, (row, word)), (n, features))

    return sample


def yfcc(rng: Generator) -> Sampler:
    """Rectified mixtures of hidden factors; a quarter of the rows is of the second class."""
    features, factors = 4096, 64
    mixing = rng.standard_normal((factors, features)) / np.sqrt(factors)
    weights = rng.standard_normal(factors) / np.sqrt(factors)

    def sample(n: int) -> tuple[Array, Any]:
        hidden = rng.standard_normal((n, factors))
        x = hidden @ mixing + 0.5 * rng.standard_normal((n, features))
        return hidden @ weights + 0.3 * rng.standard_normal(n) > 0.7, csr_matrix((x - 0.5).clip(0, 10))

    return sample


def clustered(sample: Sampler, k: int, rng: Generator) -> Sampler:
    """Rows about k centres: on average, a row is as far from its centre as 6 % of the way to the origin."""
    second, centres = sample(k)

    def sample_clusters(n: int) -> tuple[Array, Any]:
        centre = rng.integers(k, size=n)
        x = centres[centre]
        x.data *= 1 + 0.06 * rng.standard_normal(x.nnz)
        return second[centre], x

    return sample_clusters


KINDS = {
    "higgs": Kind(100_000, 28, (b"0", b"1"), -5, 5, 3, higgs, 50_000),
    "rcv1": Kind(20_000, 47_236, (b"-1", b"+1"), 0, 1, 4, rcv1, 10_000),
    "yfcc": Kind(2_000, 4_096, (b"-1", b"+1"), 0, 10, 3, yfcc, 1_000),
}


def generate(kind: Kind, rows: int, seed: int, clusters: int | None) -> Iterator[bytes]:
    """The file, some rows at a time."""
    rng = np.random.default_rng(seed)
    sample = kind.sampler(rng)
    if clusters is not None:
        sample = clustered(sample, clusters, rng)
    scale = 10**kind.decimals
    indices = np.array([f" {i + 1}:" for i in range(kind.features)], "S")
    values = np.array([f"{i / scale:g}" for i in range(kind.lowest * scale, kind.highest * scale + 1)], "S")
    cell = np.dtype([("label", "S2"), ("index", indices.dtype), ("value", values.dtype), ("end", "S1")])
    for first in range(0, rows, kind.block):
        second, x = sample(min(kind.block, rows - first))
        cells = np.zeros(x.nnz, cell)
        cells["label"][x.indptr[:-1]] = np.where(second, kind.labels[1], kind.labels[0])
        cells["index"] = indices[x.indices]
        x.data.clip(kind.lowest, kind.highest, out=x.data)
        cells["value"] = values[np.rint(x.data * scale).astype(np.int64) - kind.lowest * scale]
        cells["end"][x.indptr[1:] - 1] = b"\n"
        text = cells.view(np.uint8)
        yield text[text != 0].tobytes()  # texts shorter than their field are filled up with zero bytes


def open_for_writing(path: Path) -> IO[bytes]:
    """The file, compressed if its name says so; without a date in it, so that equal data are equal bytes."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(path, "wb", compresslevel=3, mtime=0))
    return path.open("wb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--rows", type=int, help="; ".join(f"{name}: {k.rows:,}" for name, k in KINDS.items()))
    parser.add_argument("--clusters", type=int, metavar="K", help="rows about K centres, for k-means")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kind = KINDS[given.kind]
    with open_for_writing(given.out) as file:
        for text in generate(kind, given.rows or kind.rows, given.seed, given.clusters):
            file.write(text)


if __name__ == "__main__":
    main()
