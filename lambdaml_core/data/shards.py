"""Shards: raw arrays in a store, a manifest that describes them, and a rank's rows loaded from them.

The rows of a partition are in one shuffled order. It is cut into shards of equal length, and a rank owns a range of
it: a shard is only a piece of storage, and how many there are changes no number.

A shard is its arrays one after the other, little-endian, each starting at a multiple of 64 bytes: ``y`` (float32),
then, where the layout is dense, ``x`` (float32, row by row), or, where it is csr, ``lengths`` (int32, entries of each
row), ``indices`` (int32, from 0) and ``values`` (float32). What is needed to read it is in the manifest, which is
written last: without one there is no partition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from lambdaml_core.aligned import ALIGNMENT, aligned_empty, aligned_size
from lambdaml_core.data.base import Batch
from lambdaml_core.data.prefetch import Prefetch
from lambdaml_core.data.stored import can_be_labels, check_fields, parse_json
from lambdaml_core.errors import DataError, KeyNotFound
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import FullStorage

MANIFEST_KEY = "manifest.json"
SCHEMA = 2

Layout: TypeAlias = Literal["dense", "csr"]
Split: TypeAlias = Literal["train", "validation"]
Label: TypeAlias = bool | int | float | str
Piece: TypeAlias = Mapping[str, NDArray[Any]]
"""Consecutive rows as the arrays that a shard has, by name."""

_BLOCK_BYTES = 1 << 20  # a block of rows and what a model computes from it stay in a core's cache
_DTYPES = {"y": "<f4", "x": "<f4", "lengths": "<i4", "indices": "<i4", "values": "<f4"}
_FOR_READERS = ("schema", "rows", "validation_rows", "classes")  # in a manifest, besides its fields
_MOST_FEATURES = 2**31 - 1  # indices are int32
_SECTIONS: Mapping[str, tuple[str, ...]] = {"dense": ("y", "x"), "csr": ("y", "lengths", "indices", "values")}


@dataclass(frozen=True)
class Shard:
    """One value in the store.

    Attributes:
        key: its key below the partition's URL.
        rows, entries: rows, and stored cells of x.
        bytes: length of the value.
        checksum: XXH3 with 64 bits of the value, in hexadecimal.
    """

    key: str
    rows: int
    entries: int
    bytes: int
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a partition is; stored as JSON under ``manifest.json``. Equal rows and settings give equal bytes.

    Attributes:
        layout: how the cells of x are stored.
        features: columns of x.
        labels: the distinct labels of the source in order; class number c stands for ``labels[c]``. Empty where rows
            are labelled with numbers to learn.
        counts: rows of each class among those to train on.
        preprocessing: what was done to raw rows, as :meth:`lambdaml_core.data.preprocess.Preprocessing.to_json` says
            it; None where rows came as they are.
        seed: what the order of the rows came from.
        train, validation: the shards, in order.
    """

    layout: Layout
    features: int
    labels: tuple[Label, ...]
    counts: tuple[int, ...]
    preprocessing: Mapping[str, Any] | None
    seed: int
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """Rows to train on."""
        return sum(shard.rows for shard in self.train)

    @property
    def validation_rows(self) -> int:
        """Rows kept for validation."""
        return sum(shard.rows for shard in self.validation)

    @property
    def classes(self) -> int:
        """Number of classes; 0 where rows are labelled with numbers."""
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in (*self.train, *self.validation))

    @property
    def checksum(self) -> str:
        """SHA-256 of the manifest in hexadecimal; it holds the shards' checksums, so it stands for all the data."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def shards(self, split: Split) -> tuple[Shard, ...]:
        """The shards of one split, in order."""
        return self.train if split == "train" else self.validation

    def to_json(self) -> bytes:
        """The stored form."""
        counts = {"rows": self.rows, "validation_rows": self.validation_rows, "classes": self.classes}
        return json.dumps({"schema": SCHEMA, **counts, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: Buffer) -> Manifest:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: not a manifest, or one of another version.
        """
        try:
            fields = parse_json(data)
            if not isinstance(fields, dict) or "schema" not in fields:
                raise ValueError("it has no schema")
            if fields["schema"] != SCHEMA:
                raise DataError(
                    f"the partition was written in version {fields['schema']!r:.60} of its format, not {SCHEMA}",
                    hint="partition the source again with this version of lambdaml",
                )
            fields = {name: value for name, value in fields.items() if name not in _FOR_READERS}
            check_fields(cls, fields)
            tuples = {name: tuple(fields[name]) for name in ("labels", "counts")}
            shards = {name: tuple(Shard(**shard) for shard in fields[name]) for name in ("train", "validation")}
            manifest = cls(**{**fields, **tuples, **shards})
            manifest._check()
        except ValueError as e:
            raise DataError(f"{MANIFEST_KEY} is not the manifest of a partition: {e}", hint="partition again") from e
        return manifest

    def _check(self) -> None:
        """ValueError, where the fields do not fit together."""
        if not 0 < self.features <= _MOST_FEATURES:
            raise ValueError(f"features is {self.features}")
        if not can_be_labels(self.labels) or len(self.labels) == 1:
            raise ValueError("labels are not two or more distinct numbers or words")
        for shard in (*self.train, *self.validation):
            if shard.rows < 1 or shard.bytes != _bytes_of(shard, self.layout, self.features):
                raise ValueError(f"{shard.key!r:.60} has {shard.bytes} bytes for {shard.rows} rows")
        if len(self.counts) != self.classes or min(self.counts, default=0) < 0:
            raise ValueError("counts are not one for each label")
        if self.rows < 1 or (self.labels and sum(self.counts) != self.rows):
            raise ValueError(f"there are {self.rows} rows to train on, and {sum(self.counts)} are counted")
        if self.preprocessing is not None:
            from lambdaml_core.data.preprocess import Preprocessing  # it needs the layouts of this module

            try:
                how = Preprocessing.from_json(self.preprocessing)
            except DataError as e:
                raise ValueError(e.message) from e
            if (how.features, how.layout) != (self.features, self.layout):
                raise ValueError(f"the preprocessing makes {how.features} features, {how.layout}")

    @classmethod
    def load(cls, store: FullStorage) -> Manifest:
        """Read the manifest of the partition in a store.

        Raises:
            DataError: there is no partition, or what is there is not one.
        """
        try:
            return cls.from_json(store.get(MANIFEST_KEY))
        except KeyNotFound as e:
            raise DataError(
                f"there is no partition: {MANIFEST_KEY} is missing",
                hint="make one with: lambdaml partition SOURCE --shards N --out URL",
            ) from e


def encode(pieces: Sequence[Piece], layout: Layout) -> Parts:
    """The value of a shard that has these rows: a gather list of the arrays themselves, not copied."""
    parts: list[Buffer] = []
    for name in _SECTIONS[layout]:
        arrays = [np.ascontiguousarray(piece[name], _DTYPES[name]) for piece in pieces]
        parts += [array.data.cast("B") for array in arrays if array.size]
        parts.append(bytes(-sum(array.nbytes for array in arrays) % ALIGNMENT))
    return parts


def _bytes_of(shard: Shard, layout: Layout, features: int) -> int:
    """How long a shard's value is; -1, where it has other entries than a table of so many columns has."""
    most = shard.rows * features
    if not (shard.entries == most if layout == "dense" else 0 <= shard.entries <= most):
        return -1
    counts = (shard.rows if name in ("y", "lengths") else shard.entries for name in _SECTIONS[layout])
    return sum(aligned_size(4 * count) for count in counts)


def decode(data: Buffer, shard: Shard, layout: Layout) -> Piece:
    """The arrays of a shard, as views of its bytes; ``x`` is flat.

    Raises:
        DataError: the bytes are not those that were written.
    """
    view = memoryview(data).cast("B")
    if view.nbytes != shard.bytes or xxhash.xxh3_64_hexdigest(view) != shard.checksum:
        raise DataError(f"the shard {shard.key} is damaged", hint="partition the source again")
    piece, offset = {}, 0
    for name in _SECTIONS[layout]:
        count = shard.rows if name in ("y", "lengths") else shard.entries
        piece[name] = np.frombuffer(view, _DTYPES[name], count, offset)
        offset += aligned_size(piece[name].nbytes)
    return piece


class _Part(NamedTuple):
    """Rows ``first`` to ``last`` of a shard, which become the rank's own from ``row`` on."""

    shard: Shard
    first: int
    last: int
    row: int


class ShardedData:
    """A rank's rows in memory: implements :class:`lambdaml_core.data.base.Data`.

    Rank r of w owns the rows [r N // w, (r + 1) N // w) of the split's order, in contiguous arrays that start at a
    multiple of 64 bytes, so that what is computed from them depends on neither the shards nor the allocator.

    Shards are loaded in the background: the constructor returns at once, and :meth:`batch` and :meth:`blocks` wait for
    the rows that they need. They raise what loading raised, each time, if it failed before those rows::

        data = ShardedData(store, manifest, rank=0, size=1, batch_size=1000, waiting=clock.loading)
        try:
            ...  # data.batch(step)
        finally:
            data.close()  # before store.close(): until then the store is used by a thread; wait() would load all of it

    Args:
        store: where the partition is. It must stay open until :meth:`wait` or :meth:`close` has returned.
        batch_size: rows of a mini-batch over all ranks.
        class_weight: what the rows of each class number count; becomes ``Batch.weights``.
        waiting: entered around each wait for rows, so that a clock can tell it from computing.

    Raises:
        DataError: a shard is damaged or was changed while it was read; or a weight is missing.
        StorageError: a shard cannot be read.
    """

    def __init__(
        self,
        store: FullStorage,
        manifest: Manifest,
        *,
        rank: int,
        size: int,
        batch_size: int,
        split: Split = "train",
        class_weight: Sequence[float] | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if class_weight is not None and len(class_weight) != manifest.classes:
            raise DataError(
                f"{manifest.classes} classes have {len(class_weight)} weights", hint="give one to each class"
            )
        shards = manifest.shards(split)
        total = sum(shard.rows for shard in shards)
        first, last = rank * total // size, (rank + 1) * total // size
        self.rows = last - first
        self.features = manifest.features
        self.classes = manifest.classes
        self.steps_per_epoch = max(1, -(-total // batch_size))
        self._layout = manifest.layout
        self._sparse = manifest.layout == "csr"
        self._class_weight = None if class_weight is None else np.asarray(class_weight, np.float32)
        entries_of_row = sum(shard.entries for shard in shards) // max(1, total) * (2 if self._sparse else 1)
        self._block_rows = min(max(_BLOCK_BYTES // (4 * max(1, entries_of_row)), 64), 8192)
        # views are kept, because making one costs as much as some of what is done with it
        self._batches: dict[int, Batch] = {}
        self._blocks: dict[int, Batch] = {}
        parts = _parts(shards, first, last)
        self._lay_out(sum(part.shard.entries for part in parts))
        self._loading = Prefetch(parts, lambda part: store.get(part.shard.key), self._taker(store), waiting)

    @property
    def bytes(self) -> int:
        """Memory that the rows take. Waits for all of them."""
        self.wait()
        entries = int(self._indptr[-1]) * 8 + self._indptr.nbytes if self._sparse else self._values.nbytes
        weights = 0 if self._weights is None else self._weights.nbytes
        return self._y.nbytes + weights + entries

    def wait(self) -> None:
        """Return once all rows are loaded, and the store is no longer used."""
        self._loading.need(self.rows)

    def close(self) -> None:
        """Load no further; the store is no longer used. Rows that are there stay."""
        self._loading.close()

    def batch(self, step: int) -> Batch:
        """Mini-batch ``step % steps_per_epoch``; its arrays are views."""
        steps = self.steps_per_epoch
        t = step % steps
        batch = self._batches.get(t)
        if batch is None:
            batch = self._batches[t] = self._view(t * self.rows // steps, (t + 1) * self.rows // steps)
        return batch

    def blocks(self) -> Iterator[Batch]:
        """One pass in order, in blocks of at most a few thousand rows."""
        for first in range(0, self.rows, self._block_rows):
            if first not in self._blocks:
                self._blocks[first] = self._view(first, min(first + self._block_rows, self.rows))
            yield self._blocks[first]

    def _lay_out(self, room: int) -> None:
        # Memory is asked for whole shards; pages of it that no row of this rank needs stay untouched.
        self._y = aligned_empty((self.rows,), "<f4")
        self._weights = None if self._class_weight is None else aligned_empty((self.rows,), "<f4")
        if self._sparse:
            self._values = aligned_empty((room,), "<f4")
            self._indices = aligned_empty((room,), "<i4")
            self._indptr = aligned_empty((self.rows + 1,), "<i8")
            self._indptr[0] = 0
        else:
            self._values = aligned_empty((self.rows * self.features,), "<f4")

    def _taker(self, store: FullStorage) -> Callable[[_Part, Buffer], int]:
        def take(part: _Part, data: Buffer) -> int:
            self._take(part, decode(data, part.shard, self._layout))
            if not store.intact(part.shard.key, data):
                raise DataError(
                    f"the shard {part.shard.key} was replaced while it was read", hint="start the run again"
                )
            return part.row + part.last - part.first

        return take

    def _take(self, part: _Part, piece: Piece) -> None:
        _, lo, hi, row = part
        end = row + hi - lo
        self._y[row:end] = piece["y"][lo:hi]
        if self._weights is not None and self._class_weight is not None:
            self._weights[row:end] = self._class_weight[piece["y"][lo:hi].astype(np.intp)]
        if not self._sparse:
            self._values[row * self.features : end * self.features] = piece["x"][
                lo * self.features : hi * self.features
            ]
            return
        start, stop = int(piece["lengths"][:lo].sum()), int(piece["lengths"][:hi].sum())
        filled = int(self._indptr[row])
        np.cumsum(piece["lengths"][lo:hi], out=self._indptr[row + 1 : end + 1])
        self._indptr[row + 1 : end + 1] += filled
        self._indices[filled : filled + stop - start] = piece["indices"][start:stop]
        self._values[filled : filled + stop - start] = piece["values"][start:stop]

    def _view(self, first: int, last: int) -> Batch:
        self._loading.need(last)
        x = self._csr(first, last) if self._sparse else self._dense(first, last)
        weights = None if self._weights is None else self._weights[first:last]
        return Batch(x, self._y[first:last], last - first, weights)

    def _dense(self, first: int, last: int) -> NDArray[Any]:
        cells = self._values[first * self.features : last * self.features]
        return cells.reshape(last - first, self.features)

    def _csr(self, first: int, last: int) -> Any:
        from scipy.sparse import csr_matrix  # a worker with dense rows starts without it

        start, stop = int(self._indptr[first]), int(self._indptr[last])
        # Arrays are set, not given to the constructor: it copies those that are a small part of a larger one.
        x: Any = csr_matrix((last - first, self.features))
        x.data, x.indices = self._values[start:stop], self._indices[start:stop]
        x.indptr = (self._indptr[first : last + 1] - start).astype(np.int32)
        x.has_canonical_format = True
        return x


def _parts(shards: Sequence[Shard], first: int, last: int) -> list[_Part]:
    """What of the shards holds rows first to last of the order."""
    parts, start = [], 0
    for shard in shards:
        lo, hi = max(first - start, 0), min(last - start, shard.rows)
        if lo < hi:
            parts.append(_Part(shard, lo, hi, start + lo - first))
        start += shard.rows
    return parts
