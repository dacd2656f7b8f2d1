"""Writes a partition: rows come in their final order, shards of equal length leave, the manifest is last."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import xxhash

from lambdaml_core.data.order import cut_evenly, split_rows
from lambdaml_core.data.shards import (
    MANIFEST_KEY,
    Label,
    Layout,
    Manifest,
    Piece,
    Shard,
    Split,
    encode,
)
from lambdaml_core.errors import DataError, KeyNotFound, OptionError, OutputExists, StorageError
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.layers import FullStorage

PIECE_BYTES = 16 << 20  # rows are sorted and handed over in pieces of about this size
_SHARD_BYTES = 64 << 20  # a shard is written whole, so its size bounds the memory that is needed


class Shape(NamedTuple):
    """All that has to be known of the rows before the first of them is written.

    Attributes:
        entries: stored cells of x over all rows; about that many, for a table.
        labels: of the classes, in order; none where rows are labelled with numbers.
        preprocessing: for the manifest.
    """

    layout: Layout
    rows: int
    features: int
    entries: int
    labels: tuple[Label, ...]
    preprocessing: Mapping[str, Any] | None = None

    @property
    def bytes(self) -> int:
        """About what all shards take."""
        cells = 4 * self.rows * self.features if self.layout == "dense" else 8 * self.entries + 4 * self.rows
        return cells + 4 * self.rows


def choose_layout(wanted: str, rows: int, features: int, entries: int) -> Layout:
    """``auto`` is dense where at least half of the cells are there."""
    if wanted == "auto":
        wanted = "dense" if 2 * entries >= rows * features else "sparse"
    return "dense" if wanted == "dense" else "csr"


def check_request(store: FullStorage, shards: int, validation: float, where: str = "the store") -> None:
    """Refuse what cannot work, before any work is done.

    Args:
        where: what the store is called in messages.

    Raises:
        OptionError: no shards, or a share of validation rows outside [0, 1).
        OutputExists: there is a partition already.
    """
    if shards < 1:
        raise OptionError(f"shards must be at least 1, not {shards}", hint="one per worker is a good number")
    if not 0 <= validation < 1:
        raise OptionError(f"validation must be at least 0 and below 1, not {validation}", hint="such as 0.2")
    with contextlib.suppress(KeyNotFound):
        store.get(MANIFEST_KEY)
        raise OutputExists(f"{where} holds a partition already", hint="choose another place, or remove that one")


class PartitionWriter:
    """Use as a context manager: what was written is removed if an error or an interrupt leaves it.

    Args:
        shards: how many shards to cut the training rows into; more, if one would be larger than 64 MiB.
        validation: share of the rows kept for validation, the last of the order.

    Raises:
        DataError: fewer rows than shards.
    """

    def __init__(self, store: FullStorage, shape: Shape, *, seed: int, shards: int, validation: float) -> None:
        train, kept = split_rows(shape.rows, validation)
        if train < shards:
            raise DataError(
                f"{train} rows to train on cannot be cut into {shards} shards",
                hint="ask for fewer shards, or give more rows",
            )
        shards = max(shards, min(train, -(-shape.bytes // _SHARD_BYTES)))
        self._store = store
        self._shape = shape
        self._seed = seed
        self._to_come: list[tuple[Split, int]] = [("train", n) for n in cut_evenly(train, shards)]
        self._to_come += [("validation", n) for n in cut_evenly(kept, min(shards, kept))]
        self._to_come.reverse()
        self._pending: list[Piece] = []
        self._rows = 0
        self._written: dict[Split, list[Shard]] = {"train": [], "validation": []}
        self._created: list[str] = []
        self._counts = np.zeros(len(shape.labels), np.int64)

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            with contextlib.suppress(StorageError):  # the error that brought us here says more
                self._store.delete(self._created)

    def add(self, piece: Piece) -> None:
        """Take the next rows of the order."""
        rows, done = len(piece["y"]), 0
        while done < rows:
            count = min(self._to_come[-1][1] - self._rows, rows - done)
            self._pending.append(_rows_of(piece, done, done + count))
            self._rows += count
            done += count
            if self._rows == self._to_come[-1][1]:
                self._flush()

    def finish(self) -> Manifest:
        """Write the manifest; from now on the partition is there.

        Raises:
            OutputExists: another process has written one meanwhile.
        """
        if self._to_come:
            raise AssertionError("rows are missing")
        manifest = Manifest(
            layout=self._shape.layout,
            features=self._shape.features,
            labels=self._shape.labels,
            counts=tuple(int(n) for n in self._counts),
            preprocessing=self._shape.preprocessing,
            seed=self._seed,
            train=tuple(self._written["train"]),
            validation=tuple(self._written["validation"]),
        )
        self._create(MANIFEST_KEY, [manifest.to_json()])
        return manifest

    def _flush(self) -> None:
        split, rows = self._to_come.pop()
        if split == "train" and self._shape.labels:
            for piece in self._pending:
                self._counts += np.bincount(piece["y"].astype(np.int64), minlength=len(self._counts))
        parts = encode(self._pending, self._shape.layout)
        digest = xxhash.xxh3_64()
        for part in parts:
            digest.update(part)
        column = "x" if self._shape.layout == "dense" else "values"
        entries = sum(piece[column].size for piece in self._pending)
        key = f"{split}-{len(self._written[split]):05d}.bin"
        size = sum(memoryview(part).nbytes for part in parts)
        self._create(key, parts)
        self._written[split].append(Shard(key, rows, entries, size, digest.hexdigest()))
        self._pending, self._rows = [], 0

    def _create(self, key: str, parts: Parts) -> None:
        self._created.append(key)
        if not self._store.put(key, parts, if_absent=True):
            self._created.remove(key)
            raise OutputExists(
                f"{key} exists already, left by an interrupted partition or being written by another",
                hint="choose another place, or remove what is there",
            )


def _rows_of(piece: Piece, first: int, last: int) -> Piece:
    if "x" in piece:
        return {"y": piece["y"][first:last], "x": piece["x"][first:last]}
    start = int(np.sum(piece["lengths"][:first], dtype=np.int64))
    stop = start + int(np.sum(piece["lengths"][first:last], dtype=np.int64))
    rows = {name: piece[name][first:last] for name in ("y", "lengths")}
    return rows | {name: piece[name][start:stop] for name in ("indices", "values")}
