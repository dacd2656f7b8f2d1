"""How named arrays lie in one message, how the message is split into chunks, and how chunks are folded."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import ALIGNMENT, aligned_empty, aligned_size
from lambdaml_core.comm.base import Arrays, Op
from lambdaml_core.comm.sparse import Packed
from lambdaml_core.errors import CorruptMessage, UsageError
from lambdaml_core.storage.base import Buffer

PAGE = 4096
_ELEMENT = 8  # bytes of the largest: no cut goes through one
_DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in (("float", (16, 32, 64)), ("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)))
    for bits in sizes
)
_FOLD: dict[str, Callable[..., Any]] = {"sum": np.add, "min": np.minimum, "max": np.maximum}


class Piece(NamedTuple):
    """Elements lo to hi of one array, which lie at byte ``at`` of a chunk's payload."""

    array: int
    lo: int
    hi: int
    at: int


class Layout:
    """Where everything lies. A function of names, dtypes, shapes and operations only, hence equal on all ranks.

    Arrays follow each other in the order given, each at a multiple of 64 bytes. Of the n blocks of the whole (pages, in
    smaller messages 64 bytes, in tiny ones 8), each of C chunks has n // C, and the first n mod C have one more.

    Attributes:
        schema: all of it as ASCII, compared between ranks.
        chunks: the pieces of each chunk.
        total_bytes: the payloads of all chunks.
    """

    def __init__(self, x: Arrays, op: Op | Mapping[str, Op], *, aggregators: int, chunk_bytes: int) -> None:
        self.names = list(x)
        self.dtypes = [_checked_dtype(name, a) for name, a in x.items()]
        self.shapes = [a.shape for a in x.values()]
        if not isinstance(op, str) and (strangers := sorted(op.keys() - x.keys())):
            raise UsageError(f"there is an operation for {strangers[0]}, and no such array")
        self.ops = [_checked_op(name, op) for name in x]
        self.schema = ";".join(
            f"{n}:{d.str[1:]}:{'x'.join(map(str, s))}:{o}"
            for n, d, s, o in zip(self.names, self.dtypes, self.shapes, self.ops, strict=True)
        ).encode("ascii")
        starts, total = [], 0
        for a in x.values():
            starts.append(total)
            total += aligned_size(a.nbytes)
        bounds = _split(total, aggregators, chunk_bytes)
        sizes = [a.nbytes for a in x.values()]
        self.chunks = [_pieces(lo, hi, starts, sizes, self.dtypes) for lo, hi in itertools.pairwise(bounds)]
        self.chunk_bytes = [hi - lo for lo, hi in itertools.pairwise(bounds)]
        self.total_bytes = sum(self.payload_bytes(chunk) for chunk in range(len(self.chunks)))

    def payload(self, chunk: int, flat: Sequence[NDArray[Any]]) -> list[Buffer]:
        """The chunk's bytes as views of the arrays, with zeros in the gaps between them."""
        parts: list[Buffer] = []
        at = 0
        for piece in self.chunks[chunk]:
            if piece.at > at:
                parts.append(bytes(piece.at - at))
            part = flat[piece.array][piece.lo : piece.hi].data.cast("B")
            parts.append(part)
            at = piece.at + part.nbytes
        return parts

    def payload_bytes(self, chunk: int) -> int:
        """The length of :meth:`payload`."""
        last = self.chunks[chunk][-1:]
        return sum(piece.at + (piece.hi - piece.lo) * self.dtypes[piece.array].itemsize for piece in last)

    def views(self, chunk: int, payload: memoryview) -> list[NDArray[Any]]:
        """The chunk's pieces as arrays that view a payload."""
        return [np.frombuffer(payload, self.dtypes[p.array], p.hi - p.lo, p.at) for p in self.chunks[chunk]]

    def own(self, chunk: int, flat: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The chunk's pieces of this rank's arrays, as views."""
        return [flat[p.array][p.lo : p.hi] for p in self.chunks[chunk]]


def flatten(x: Arrays) -> list[NDArray[Any]]:
    """One-dimensional views of the arrays.

    Raises:
        UsageError: an array is not C-contiguous or not writable, so that it could not change in place.
    """
    for name, a in x.items():
        if not (a.flags.c_contiguous and a.flags.writeable):
            raise UsageError(
                f"the array {name} must be C-contiguous and writable", hint="np.ascontiguousarray makes one"
            )
    return [a.reshape(-1) for a in x.values()]


class Workspace:
    """Aligned memory that is used again: fresh pages cost more than the arithmetic done in them."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes at a multiple of 64, with any contents."""
        for i, block in enumerate(self._free):
            if block.nbytes >= size:
                return self._free.pop(i)
        return aligned_empty((size,), np.uint8)

    def give(self, block: NDArray[np.uint8]) -> None:
        """Give back what :meth:`take` gave."""
        self._free.append(block)


class RankFold:
    """Folds one chunk, contribution by contribution, in the order it is given them.

    Each contribution is read once. From this rank's own contribution on, the running total lies in this rank's own
    arrays; before that it is a view of the first contribution, then workspace.
    """

    def __init__(self, layout: Layout, chunk: int, own: list[NDArray[Any]], workspace: Workspace) -> None:
        pieces = layout.chunks[chunk]
        self._fold = [_FOLD[layout.ops[p.array]] for p in pieces]
        self._wide = [layout.ops[p.array] == "sum" and layout.dtypes[p.array] == np.float16 for p in pieces]
        self._layout, self._chunk, self._own, self._workspace = layout, chunk, own, workspace
        self._total: list[NDArray[Any]] | None = None
        self._own_is_in = False
        self._block: NDArray[np.uint8] | None = None

    def add(self, values: list[NDArray[Any]] | Packed | None) -> None:
        """Fold in the next contribution: pieces as :meth:`Layout.views` gives them, or None for this rank's own.

        Raises:
            CorruptMessage: as :meth:`Packed.expand`; there is no total then.
        """
        if values is None:
            self._own_is_in = True
            self._add(self._own)
        elif not isinstance(values, Packed):
            self._add(values)
        elif self._total is None:
            self._add(values.expand(self._scratch()))
        else:  # as it would have come: so the bytes are those of a dense fold
            block = self._workspace.take(self._layout.chunk_bytes[self._chunk])
            self._add(values.expand(self._layout.views(self._chunk, block.data)))
            self._workspace.give(block)

    def finish(self) -> None:
        """Leave the result in this rank's arrays."""
        with np.errstate(all="ignore"):
            for own, total in zip(self._own, self._total or [], strict=True):
                if own is not total:
                    own[...] = total
        self._total = None
        if self._block is not None:
            self._workspace.give(self._block)
            self._block = None

    def _add(self, given: list[NDArray[Any]]) -> None:
        if self._total is None:
            self._total = [v.astype(np.float32) if wide else v for v, wide in zip(given, self._wide, strict=True)]
            return
        out = self._own if self._own_is_in else self._scratch()
        with np.errstate(all="ignore"):
            self._total = [
                fold(total, value, out=total if wide else into)
                for fold, total, value, into, wide in zip(self._fold, self._total, given, out, self._wide, strict=True)
            ]

    def _scratch(self) -> list[NDArray[Any]]:
        if self._block is None:
            self._block = self._workspace.take(self._layout.chunk_bytes[self._chunk])
        return self._layout.views(self._chunk, self._block.data)


def _checked_dtype(name: str, a: NDArray[Any]) -> np.dtype[Any]:
    if not isinstance(a, np.ndarray) or a.dtype.name not in _DTYPES:
        raise UsageError(
            f"the array {name} has dtype {getattr(a, 'dtype', type(a).__name__)}", hint="use floats or integers"
        )
    if a.dtype.byteorder == ("<" if sys.byteorder == "big" else ">"):
        raise UsageError(f"the array {name} has foreign byte order", hint="convert it with astype first")
    if not name.isascii() or any(c in name for c in ":;"):
        raise UsageError(f"{name!r} cannot name an array", hint="use ASCII without colon and semicolon")
    return a.dtype


def _checked_op(name: str, op: Op | Mapping[str, Op]) -> Op:
    chosen = op if isinstance(op, str) else op.get(name, "sum")
    if chosen not in _FOLD:
        raise UsageError(f"{chosen!r} is no operation for {name}", hint="use sum, min or max")
    return chosen


class Cut(NamedTuple):
    """``number`` chunks of ``each`` times ``unit`` bytes; the first ``more`` of them have one unit more."""

    number: int
    each: int
    more: int
    unit: int

    @property
    def largest(self) -> int:
        """Bytes of the largest chunk."""
        return (self.each + (self.more > 0)) * self.unit


def cut(total: int, aggregators: int, chunk_bytes: int) -> Cut:
    """``total`` bytes in chunks, as many as a multiple of ``aggregators``, each at most about ``chunk_bytes``."""
    count = max(1, -(-total // (chunk_bytes * aggregators))) * aggregators
    # whole pages recycle well (storage/recycle.py), and whole lines add well; small messages are divided evenly
    unit = next((unit for unit in (PAGE, ALIGNMENT) if total >= 16 * unit * count), _ELEMENT)
    return Cut(count, *divmod(-(-total // unit), count), unit)


def _split(total: int, aggregators: int, chunk_bytes: int) -> list[int]:
    """Bounds of the chunks."""
    chunks = cut(total, aggregators, chunk_bytes)
    bounds = [0]
    for c in range(chunks.number):
        bounds.append(min(total, bounds[-1] + (chunks.each + (c < chunks.more)) * chunks.unit))
    return bounds


def parse_schema(schema: bytes) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Names, dtypes and shapes from :attr:`Layout.schema`.

    Raises:
        CorruptMessage: it is none.
    """
    arrays = {}
    try:
        for entry in schema.decode("ascii").split(";") if schema else ():
            name, dtype, shape, _ = entry.split(":")
            arrays[name] = np.dtype("<" + dtype), tuple(map(int, shape.split("x"))) if shape else ()
    except (ValueError, TypeError) as e:
        raise CorruptMessage(f"a message has arrays {schema[:40]!r}") from e
    return arrays


def _pieces(
    lo: int, hi: int, starts: Sequence[int], sizes: Sequence[int], dtypes: Sequence[np.dtype[Any]]
) -> list[Piece]:
    pieces = []
    for i, (start, size, dtype) in enumerate(zip(starts, sizes, dtypes, strict=True)):
        a, b = max(lo, start), min(hi, start + size)
        if a < b:
            pieces.append(Piece(i, (a - start) // dtype.itemsize, (b - start) // dtype.itemsize, a - lo))
    return pieces
