"""A format of tables whose blocks have three lines, so that a few rows make many; and plain answers to hold it against.

The first line names the columns, ``x:number`` or ``w:word``; cells stand between spaces, and ``-`` is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import Block, MalformedRow, Schema, Table
from lambdaml_core.data.order import sort_keys, split_rows
from lambdaml_core.data.shards import Manifest, ShardedData
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage

Columns = Mapping[str, Sequence[Any]]
"""Cells by column: floats, or words; None = missing."""

_LINES = 3


def tiny(**options: Any) -> Reference:
    return Reference(
        "data_format", "tiny", "tiny_tables:TinyTables", f"{TableOptions.__module__}:TableOptions", options
    )


class TinyTables:
    """See above; implements :class:`lambdaml_core.data.formats.TableFormat`."""

    def __init__(self, options: TableOptions) -> None:
        self.options = options

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        columns = _header(path.read_text().splitlines()[0])
        label = self.options.label or "label"
        assert label in columns or not labelled
        numbers, words = (tuple(n for n, k in columns.items() if k == kind) for kind in ("number", "word"))
        return Schema(numbers, words, label if label in columns else None)

    def blocks(self, path: Path) -> Iterator[Block]:
        header, *lines = path.read_text().splitlines()
        for first in range(0, len(lines), _LINES):
            yield Block(1 + first, (header, lines[first : first + _LINES]), path.stat().st_size)

    def parse(self, data: tuple[str, list[str]], schema: Schema) -> Table:
        header, lines = data
        rows = [dict(zip(_header(header), line.split(" "), strict=True)) for line in lines]
        columns: dict[str, NDArray[Any]] = {}
        for name in schema.numbers:
            columns[name] = np.array([_number(row[name], line) for line, row in enumerate(rows)], np.float64)
        for name in schema.words:
            columns[name] = np.array([None if row[name] == "-" else row[name] for row in rows], object)
        return Table(np.arange(len(rows)), columns)


def _header(line: str) -> dict[str, str]:
    return dict(column.split(":") for column in line.split(" "))


def _number(cell: str, line: int) -> float:
    try:
        return float("nan") if cell == "-" else float(cell)
    except ValueError as e:
        raise MalformedRow(f"{cell!r} is no number", line=line) from e


def write_tiny(path: Path, columns: Columns) -> Path:
    """A file with these columns."""
    kinds = {name: "word" if any(isinstance(c, str) for c in cells) else "number" for name, cells in columns.items()}
    lines = [" ".join(f"{name}:{kind}" for name, kind in kinds.items())]
    for row in zip(*columns.values(), strict=True):
        lines.append(" ".join("-" if cell is None else str(cell) for cell in row))
    path.write_text("\n".join(lines) + "\n")
    return path


def shuffled(numbers: Sequence[int], seed: int, validation: float) -> tuple[list[int], list[int]]:
    """Which rows, of those with these numbers, are to train on and for validation, in order."""
    order = sorted(range(len(numbers)), key=lambda i: int(sort_keys(seed, np.array([numbers[i]]))[0]))
    train, _ = split_rows(len(numbers), validation)
    return order[:train], order[train:]


def everything(store: FullStorage, manifest: Manifest) -> tuple[NDArray[Any], NDArray[Any]]:
    """All rows, dense, and y: those to train on, then those for validation."""
    xs, ys = [np.zeros((0, manifest.features), np.float32)], [np.zeros(0, np.float32)]
    for split in ("train", "validation"):
        for block in ShardedData(store, manifest, rank=0, size=1, batch_size=10, split=split).blocks():
            xs.append(block.x if manifest.layout == "dense" else block.x.toarray())
            ys.append(block.y)
    return np.concatenate(xs), np.concatenate(ys)
