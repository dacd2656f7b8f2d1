"""The communication contracts: patterns, which say how one chunk of a collective moves, and the communicator.

A pattern is a generator of effects that carry no data, so that the same few lines run over a real storage, run in a
simulator in virtual time, and predict their own requests. The engine (``engine.py``) interprets the effects: it owns
the bytes, batches requests, waits, replays and deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
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

    A message that is mostly zeros travels as index-value pairs, with the same result.

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


class Exchange(Protocol):
    """What asynchronous workers see of each other: each rank has one slot, and nobody waits for a collective.

    What a rank publishes is *cumulative*: all it has contributed since the start, so that whoever reads the latest slot
    of every rank has everything, whatever it has missed before, and nothing is counted twice. A slot is replaced by
    compare-and-swap on its clock: of two attempts of one rank only one goes on.

    Arrays as in :class:`Communicator`; the same names, dtypes and shapes on all ranks and in every call.
    """

    @property
    def finished(self) -> Collection[int]:
        """Ranks that are known to have published their last slot."""

    def resume(self, x: Arrays) -> int:
        """Read this rank's own slot, as an earlier attempt last published it, into x.

        Returns:
            Its clock; 0 if nothing was published yet: x is then left as it is.
        """

    def publish(self, x: Arrays, *, clock: int, last: bool = False) -> None:
        """Replace this rank's slot, in which x is all that it has contributed up to ``clock``.

        Args:
            clock: one more than at the last call, or than :meth:`resume` has said.
            last: this rank has finished: nobody waits for a later clock of it.

        Raises:
            ResultLost: another attempt of this rank has published this clock; this one can end.
        """

    def merge(self, x: Arrays, *, min_clock: int) -> Sequence[int]:
        """Put the sum, in rank order, of everybody's latest slots into x; a rank without one counts as zeros.

        Args:
            min_clock: waits until everybody has come so far, or has finished; 0 = for nobody.

        Returns:
            The clock of each rank's slot that is in x, in rank order.

        Raises:
            DeadlineExpired: it names the ranks that did not come.
        """
