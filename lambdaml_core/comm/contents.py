"""What a collective moves: arrays that change in place, or everybody's arrays side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import aligned_size
from lambdaml_core.comm.layout import Layout, RankFold, Workspace, parse_schema
from lambdaml_core.comm.sparse import Packed, looks_sparse, pack, unpack
from lambdaml_core.comm.wire import RAW, SPARSE, Header, Message
from lambdaml_core.errors import CorruptMessage, MismatchedMessage
from lambdaml_core.storage.base import Parts


class Payload(NamedTuple):
    """A chunk as it travels."""

    parts: Parts
    codec: int = RAW


class Contents(Protocol):
    """The arrays of one collective, chunk by chunk."""

    schema: bytes

    def result_bytes(self, size: int) -> int:
        """Bytes of the result, of all chunks together, among ``size`` ranks; fewer if it travels as SPARSE."""

    def payload(self, chunk: int) -> Payload:
        """The chunk's present value, to be stored before it changes."""

    def stored(self, chunk: int) -> None:
        """What :meth:`payload` gave has been stored: its memory may be used again."""

    def take(self, chunk: int, message: Message) -> None:
        """Make this the chunk's present value. Raises as :meth:`pieces`; the value may be partly taken then."""

    def pieces(self, chunk: int, message: Message) -> list[NDArray[Any]] | Packed:
        """A contribution to the chunk.

        Raises:
            MismatchedMessage: the sender's arrays are not like this rank's.
            CorruptMessage: some are cut.
        """

    def fold(self, chunk: int) -> RankFold:
        """What folds contributions into the chunk's present value."""


class InPlace:
    """Arrays of equal shapes on all ranks (all_reduce, broadcast)."""

    def __init__(self, layout: Layout, flat: Sequence[NDArray[Any]], workspace: Workspace) -> None:
        self.schema = layout.schema
        self._layout, self._flat, self._workspace = layout, flat, workspace
        self._packed: dict[int, NDArray[np.uint8]] = {}  # by chunk: the memory in which it is on its way

    def result_bytes(self, size: int) -> int:
        return self._layout.total_bytes

    def payload(self, chunk: int) -> Payload:
        own = self._own(chunk)
        if looks_sparse(own):
            dense = self._layout.payload_bytes(chunk)
            block = self._workspace.take(dense)
            size = pack(own, block[: dense - 1])
            if size:
                self._packed[chunk] = block
                return Payload([block[:size].data], SPARSE)
            self._workspace.give(block)
        return Payload(self._layout.payload(chunk, self._flat))

    def stored(self, chunk: int) -> None:
        if chunk in self._packed:
            self._workspace.give(self._packed.pop(chunk))

    def take(self, chunk: int, message: Message) -> None:
        pieces = self.pieces(chunk, message)
        if isinstance(pieces, Packed):
            pieces.expand(self._own(chunk))
            return
        for own, value in zip(self._own(chunk), pieces, strict=True):
            own[...] = value

    def pieces(self, chunk: int, message: Message) -> list[NDArray[Any]] | Packed:
        if message.header.schema != self.schema:
            raise _mismatch(self.schema, message.header)
        if message.codec == SPARSE:
            return unpack(message.payload, self._own(chunk))
        _check_size(message, self._layout.payload_bytes(chunk))
        return self._layout.views(chunk, message.payload)

    def fold(self, chunk: int) -> RankFold:
        return RankFold(self._layout, chunk, self._own(chunk), self._workspace)

    def _own(self, chunk: int) -> list[NDArray[Any]]:
        return self._layout.own(chunk, self._flat)


class Gathered(InPlace):
    """Everybody's arrays: chunk r is rank r's, in whatever shapes it has them (all_gather).

    ``results[r]`` has rank r's arrays once they came, in fresh memory.
    """

    def __init__(self, layout: Layout, flat: Sequence[NDArray[Any]], rank: int, size: int) -> None:
        super().__init__(layout, flat, Workspace())
        shapes = zip(layout.names, flat, layout.shapes, strict=True)
        own = {name: a.reshape(shape).copy() for name, a, shape in shapes}
        self.results: list[dict[str, NDArray[Any]]] = [own if r == rank else {} for r in range(size)]

    def result_bytes(self, size: int) -> int:
        """As if the others had as much as this rank, which does not know their shapes yet."""
        return super().result_bytes(size) * size

    def payload(self, chunk: int) -> Payload:
        return Payload(self._layout.payload(0, self._flat))

    def take(self, chunk: int, message: Message) -> None:
        mine, theirs = _places(self.schema), _places(message.header.schema)
        if [place[:2] for place in mine] != [place[:2] for place in theirs]:
            raise _mismatch(self.schema, message.header)
        if message.codec != RAW:
            raise CorruptMessage("a message of an all_gather is packed")
        sizes = [math.prod(place.shape) * place.dtype.itemsize for place in theirs]
        _check_size(message, max((place.at + n for place, n in zip(theirs, sizes, strict=True) if n), default=0))
        for name, dtype, shape, at in theirs:
            value = np.zeros(shape, dtype)
            if value.size:
                value[...] = np.frombuffer(message.payload, dtype, value.size, at).reshape(shape)
            self.results[chunk][name] = value


class _Place(NamedTuple):
    """Where an array starts in the payload of a message that is not cut into chunks."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    at: int


def _places(schema: bytes) -> list[_Place]:
    places, at = [], 0
    for name, (dtype, shape) in parse_schema(schema).items():
        places.append(_Place(name, dtype, shape, at))
        at += aligned_size(math.prod(shape) * dtype.itemsize)
    return places


def _check_size(message: Message, expected: int) -> None:
    if message.payload.nbytes != expected:
        raise CorruptMessage(f"a message brings {message.payload.nbytes} bytes of arrays instead of {expected}")


def _mismatch(mine: bytes, header: Header) -> MismatchedMessage:
    """The error for two ranks whose arrays differ; names the first difference."""
    ours, theirs = mine.decode("ascii").split(";"), header.schema.decode("ascii", "replace").split(";")
    pairs = zip([*ours, "nothing more"], [*theirs, "nothing more"], strict=False)
    mine_first, their_first = next((a, b) for a, b in pairs if a != b)
    return MismatchedMessage(
        f"a rank sent {their_first or 'nothing'} where this rank has {mine_first or 'nothing'}",
        hint="all ranks must make the same calls in the same order with arrays of the same names, dtypes and shapes",
    )
