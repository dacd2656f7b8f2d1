"""The communication contracts: patterns, which say how one chunk of a collective moves, and the communicator.

A pattern is a generator of effects that carry no data, so that the same few lines run over a real storage, run in a
simulator in virtual time, and predict their own requests. The engine (``engine.py``) interprets the effects: it owns
the bytes, batches requests, waits, replays and deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Several named arrays of any dtypes and shapes; they travel as ONE message."""

Op: TypeAlias = Literal["sum", "min", "max"]
"""All that a fold does. A mean is a sum, a count and one division."""

Fill: TypeAlias = Callable[[Callable[[int, int], None]], None]
"""``fill(ready)`` computes the contribution into the arrays of the collective. It may write nothing else, because a
replayed collective that finds its result never calls it. ``ready(lo, hi)`` may be called to say that bytes lo to hi of
the message are final; what was never announced is final on return."""


class Call(NamedTuple):
    """One chunk of one collective, as a pattern sees it.

    Attributes:
        rank, size: this worker and how many there are.
        chunk: index of the chunk; ``owner`` is the rank that folds it (``chunk % K``: K = 1 is the leader pattern,
            K = size is ScatterReduce), or the rank whose value it is (broadcast).
        key: ``key(*parts)`` names a value of this chunk, injectively.
        result: the key of the chunk's result.
    """

    rank: int
    size: int
    chunk: int
    owner: int
    key: Callable[..., str]
    result: str


class Put(NamedTuple):
    """Create the chunk's present value under ``key``. If it exists already, the stored bytes count."""

    key: str


class Fold(NamedTuple):
    """Combine these values in this order, element by element; None is this rank's own contribution.

    The result becomes the chunk's present value. float16 accumulates in float32 and is rounded once at the end.
    """

    sources: Sequence[str | None]


class Get(NamedTuple):
    """Wait for the value under ``key``; it becomes the chunk's present value."""

    key: str


Effect: TypeAlias = Put | Fold | Get
Pattern: TypeAlias = Callable[[Call], Generator[Effect, None, None]]


class Communicator(Protocol):
    """Collectives, in place. All ranks make the same calls in the same order with arrays of equal shapes.

    dtypes: float16, float32, float64 and signed or unsigned integers of 8 to 64 bits; any shape, size 0 included.
    Arrays must be C-contiguous and writable. Errors, all typed: ``MismatchedMessage`` (ranks are not in the same
    call), ``DeadlineExpired`` (names the ranks that are missing), ``ResultLost``, ``CorruptMessage``.
    """

    rank: int
    size: int

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        """Replace x by its fold over ranks: a copy of rank 0's values, then ranks 1..size-1 in order.

        The bytes are the same for every number of aggregators, chunk size and storage.

        Args:
            x: the contribution; overwritten by the result.
            op: one operation for all arrays, or one per name.
            fill: computes the contribution into x; not called when a replay finds the result.
        """

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        """Everybody's x, in rank order, in fresh arrays. Shapes may differ between ranks; names and dtypes may not."""

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        """Replace x by root's x."""

    def barrier(self) -> None:
        """Return once every rank has called it."""
