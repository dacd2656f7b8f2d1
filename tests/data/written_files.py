"""How files of the built-in formats are written, for the laws of formats."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse
from numpy.typing import NDArray

from lambdaml_core.testing.data_format_laws.tables import Columns

Array = NDArray[Any]
LIBSVM_BAD = (b"1 1:nan", b"yes 1:1", b"1 0:1", b"1 2:1 2:1", b"1 2", b"1 qid:7 2:1", b"1 1:1e39", b"\xff")
CSV_BAD = (b"1,2,w", b"1,2,w,no,", b'1,2,"w"w,no', b"many,2,w,no", b"1,2,\xe9,no", b"inf,2,w,no", b"1_0,2,w,no")


def write_libsvm(path: Path, x: Array, labels: Array | None) -> None:
    lines = []
    for label, row in zip(() if labels is None else labels.tolist(), x.tolist(), strict=True):
        lines.append(f"{label!r} " + " ".join(f"{i}:{v!r}" for i, v in enumerate(row, 1) if v))
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_npy(path: Path, x: Array, labels: Array | None) -> None:
    np.save(path, x if labels is None else np.column_stack([x, labels]))


def write_npz(path: Path, x: Array, labels: Array | None) -> None:
    if labels is None:
        np.savez(path, x=x)
    else:
        np.savez(path, x=x, y=labels.astype(str) if labels.dtype == object else labels)


def write_sparse(path: Path, x: Array, labels: Array | None) -> None:
    scipy.sparse.save_npz(path, scipy.sparse.csr_array(x))
    beside = path.with_name("y.npy")
    beside.unlink(missing_ok=True)
    if labels is not None:
        np.save(beside, labels)


def write_csv(path: Path, columns: Columns) -> None:
    text = io.StringIO(newline="")
    returns = any("\r" in str(cell) for cells in columns.values() for cell in cells)  # which csv does not quote
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path.write_bytes(text.getvalue().encode())


def write_parquet(path: Path, columns: Columns) -> None:
    pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), path)
