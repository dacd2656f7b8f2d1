"""Index-value pairs: how a message travels that is mostly zeros, where that is shorter than all its values.

What counts is the bits: negative zeros and whatever a NaN carries come back as they went. The payload is a table of
counts (uint32, one for each block of at most 65,536 elements of a piece of the chunk, so that 16 bits say where in its
block an element is), and then for each block, each part at a multiple of 8 bytes::

    indices (uint16, ascending), values    of a block that has fewer elements than it could have
    values                                 of one that has all its elements, also those that are zero
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.errors import CorruptMessage

_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_BLOCK = 1 << 16  # elements
_SAMPLE = 512  # elements of a piece
_LEAST_BYTES = 64  # of all values: there is nothing to gain with fewer


def looks_sparse(pieces: Sequence[NDArray[Any]]) -> bool:
    """Whether half of the bytes or more seem to be of zeros, judged by a few elements: takes some microseconds."""
    total = sum(piece.nbytes for piece in pieces)
    if total < _LEAST_BYTES:
        return False
    numbers = 0.0
    for piece in pieces:
        sample = _bits(piece)
        if piece.size > _SAMPLE:
            sample = sample[:: piece.size // _SAMPLE | 1]  # odd: a table's columns are met in turn
        numbers += np.count_nonzero(sample) / sample.size * piece.nbytes
    return 2 * numbers <= total


def pack(pieces: Sequence[NDArray[Any]], room: NDArray[np.uint8]) -> int:
    """Write one-dimensional pieces into ``room``, which starts at a multiple of 8 bytes.

    Returns:
        How many bytes they take; 0 if they do not go into it.
    """
    blocks = [piece[lo : lo + _BLOCK] for piece in pieces for lo in range(0, piece.size, _BLOCK)]
    at = _padded(4 * len(blocks))
    if at > room.nbytes:
        return 0
    room[:at] = 0
    counts = room[: 4 * len(blocks)].view(np.uint32)
    for number, block in enumerate(blocks):
        where = np.flatnonzero(_bits(block) != 0)  # many times as quick by way of booleans
        if not where.size:
            continue
        full = where.size * (2 + block.itemsize) >= block.nbytes
        counts[number] = count = block.size if full else where.size
        place = _Place.at(at, count, block.size, block.itemsize)
        if place.end > room.nbytes:
            return 0
        room[max(at, place.middle - 8) : place.middle] = 0  # the ends of both parts: what is between them
        room[max(place.middle, place.end - 8) : place.end] = 0
        values = place.values(room, block.dtype)
        if full:
            values[:] = block
        else:
            place.indices(room)[:] = where
            np.take(block, where, out=values, mode="clip")  # the mode that writes in place
        at = place.end
    return at


class Packed(NamedTuple):
    """The pieces of a packed chunk, viewed where they are and not read yet."""

    data: NDArray[np.uint8]
    places: Sequence[Sequence[_Place]]

    def expand(self, pieces: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Write all elements of all pieces, which are returned.

        Raises:
            CorruptMessage: indices do not ascend, or are beyond their block. Some is written then.
        """
        for piece, places in zip(pieces, self.places, strict=True):
            lo = 0
            for place in places:
                block = piece[lo : lo + place.size]
                lo += place.size
                if place.number == place.size:
                    block[:] = place.values(self.data, piece.dtype)
                    continue
                block.fill(0)
                if place.number:
                    block[self._indices(place)] = place.values(self.data, piece.dtype)
        return pieces

    def _indices(self, place: _Place) -> NDArray[np.intp]:
        indices = place.indices(self.data).astype(np.intp)  # a copy: a value that is deleted may change meanwhile
        if indices[-1] >= place.size or not (indices[1:] > indices[:-1]).all():
            raise CorruptMessage("a message of index-value pairs has indices that do not ascend within their block")
        return indices


def unpack(payload: memoryview, pieces: Sequence[NDArray[Any]]) -> Packed:
    """What :func:`pack` has written, of pieces like these.

    Raises:
        CorruptMessage: a count is too large, or the payload has not the length that they say.
    """
    sizes = [[min(_BLOCK, piece.size - lo) for lo in range(0, piece.size, _BLOCK)] for piece in pieces]
    table = 4 * sum(map(len, sizes))
    at = _padded(table)
    if payload.nbytes < at:
        raise CorruptMessage(f"a message of index-value pairs has {payload.nbytes} bytes, and {table} of counts")
    data = np.frombuffer(payload, np.uint8)
    counts = iter(data[:table].view(np.uint32).tolist())
    unpacked = []
    for piece, of_blocks in zip(pieces, sizes, strict=True):
        places = []
        for size in of_blocks:
            number = next(counts)
            if number > size:
                raise CorruptMessage(f"a message of index-value pairs has {number} of {size} elements")
            places.append(_Place.at(at, number, size, piece.itemsize))
            at = places[-1].end
        unpacked.append(places)
    if at != payload.nbytes:
        raise CorruptMessage(f"a message of index-value pairs has {payload.nbytes} bytes instead of {at}")
    return Packed(data, unpacked)


class _Place(NamedTuple):
    """Where ``number`` of a block's ``size`` elements lie: indices from ``start`` on, values from ``middle`` on."""

    number: int
    size: int
    start: int
    middle: int
    end: int

    @classmethod
    def at(cls, start: int, number: int, size: int, itemsize: int) -> _Place:
        middle = start if number == size else _padded(start + 2 * number)
        return cls(number, size, start, middle, _padded(middle + number * itemsize))

    def indices(self, data: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return data[self.start : self.start + 2 * self.number].view(np.uint16)

    def values(self, data: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
        return data[self.middle : self.middle + self.number * dtype.itemsize].view(dtype)


def _bits(piece: NDArray[Any]) -> NDArray[Any]:
    """The same memory as unsigned integers: of zeros, only positive ones are 0."""
    return piece.view(_UNSIGNED[piece.itemsize])


def _padded(size: int) -> int:
    return -(-size // 8) * 8
