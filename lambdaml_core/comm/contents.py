"""What a collective moves: arrays that change in place, or everybody's arrays side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import aligned_size
from lambdaml_core.comm.layout import Layout, RankFold, Workspace, parse_schema
from lambdaml_core.comm.wire import Header, Message
from lambdaml_core.errors import CorruptMessage, MismatchedMessage
from lambdaml_core.storage.base import Parts


class Contents(Protocol):
    """The arrays of one collective, chunk by chunk."""

    schema: bytes

    def payload(self, chunk: int) -> Parts:
        """The chunk's present value."""

    def take(self, chunk: int, message: Message) -> None:
        """Make this the chunk's present value."""

    def views(self, chunk: int, message: Message) -> list[NDArray[Any]]:
        """A contribution to the chunk, as arrays."""

    def fold(self, chunk: int) -> RankFold:
        """What folds contributions into the chunk's present value."""

    def check(self, chunk: int, message: Message) -> None:
        """Raises MismatchedMessage if the sender's arrays are not like this rank's, CorruptMessage if some are cut."""


class InPlace:
    """Arrays of equal shapes on all ranks (all_reduce, broadcast)."""

    def __init__(self, layout: Layout, flat: Sequence[NDArray[Any]], workspace: Workspace) -> None:
        self.schema = layout.schema
        self._layout, self._flat, self._workspace = layout, flat, workspace

    def payload(self, chunk: int) -> Parts:
        return self._layout.payload(chunk, self._flat)

    def take(self, chunk: int, message: Message) -> None:
        for own, value in zip(self._own(chunk), self.views(chunk, message), strict=True):
            own[...] = value

    def views(self, chunk: int, message: Message) -> list[NDArray[Any]]:
        return self._layout.views(chunk, message.payload)

    def fold(self, chunk: int) -> RankFold:
        return RankFold(self._layout, chunk, self._own(chunk), self._workspace)

    def check(self, chunk: int, message: Message) -> None:
        if message.header.schema != self.schema:
            raise _mismatch(self.schema, message.header)
        _check_size(message, self._layout.payload_bytes(chunk))

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

    def payload(self, chunk: int) -> Parts:
        return super().payload(0)

    def take(self, chunk: int, message: Message) -> None:
        for name, dtype, shape, at in _places(message.header.schema):
            value = np.zeros(shape, dtype)
            if value.size:
                value[...] = np.frombuffer(message.payload, dtype, value.size, at).reshape(shape)
            self.results[chunk][name] = value

    def check(self, chunk: int, message: Message) -> None:
        mine, theirs = _places(self.schema), _places(message.header.schema)
        if [place[:2] for place in mine] != [place[:2] for place in theirs]:
            raise _mismatch(self.schema, message.header)
        sizes = [math.prod(place.shape) * place.dtype.itemsize for place in theirs]
        _check_size(message, max((place.at + n for place, n in zip(theirs, sizes, strict=True) if n), default=0))


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
