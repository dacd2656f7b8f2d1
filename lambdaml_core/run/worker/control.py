"""What rank 0 decides for all ranks: it rides in the messages of the rounds, so that replays find the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lambdaml_core.comm.base import Arrays, Communicator, Fill, Op

_NAME = "(control)"
"""Of the array, beside those of an optimizer."""


class NumberedCommunicator(Communicator, Protocol):
    """A communicator that numbers its collectives."""

    @property
    def sequence(self) -> int:
        """Number of the next collective."""


class Decision(NamedTuple):
    """What rank 0 decides once a round.

    Attributes:
        time_up: the run ends with this round.
        checkpoint: a checkpoint is written after it.
    """

    time_up: bool
    checkpoint: bool


class ControlledCommunicator:
    """A communicator that tells all ranks, in the first all_reduce of each round, what rank 0 has decided.

    The decision is one float64 at the end of the message (no cut goes through an element, and what ``ready`` announces
    stays where it is), made when rank 0 has computed its contribution. It is that of the stored result, whatever a
    second rank 0 would say. A round without an all_reduce is followed by one of the decision alone; one worker asks
    itself.

    Args:
        decide: called on rank 0 only, at most once a round, with the number of rounds done when this one is; None =
            there is never anything to decide, on any rank.
    """

    def __init__(self, inner: NumberedCommunicator, decide: Callable[[int], Decision] | None) -> None:
        self.rank, self.size = inner.rank, inner.size
        self._inner = inner
        self._decide = decide
        self._round = 0
        self._open = False  # the round's first all_reduce is still to come
        self._control = np.zeros(1)

    @property
    def sequence(self) -> int:
        """Number of the next collective."""
        return self._inner.sequence

    def begin(self, round: int) -> None:
        """The round begins after which ``round`` are done."""
        self._round, self._open = round, self._decide is not None

    def end(self) -> Decision:
        """The round is done: what was decided, equal on all ranks."""
        if self._decide is None:
            return Decision(time_up=False, checkpoint=False)
        if self.size == 1:
            return self._decide(self._round)
        if self._open:
            self.all_reduce({})
        code = int(self._control[0])
        return Decision(bool(code & 1), bool(code & 2))

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        """As :meth:`Communicator.all_reduce`."""
        if self._open and self._decide is not None and self.size > 1:
            self._open = False
            if op != "sum":
                op = {**(dict.fromkeys(x, op) if isinstance(op, str) else op), _NAME: "sum"}
            fill = self._contribute(self._decide, fill)
            x = {**x, _NAME: self._control}
        self._inner.all_reduce(x, op, fill=fill)

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        """As :meth:`Communicator.all_gather`."""
        return self._inner.all_gather(x)

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        """As :meth:`Communicator.broadcast`."""
        self._inner.broadcast(x, root)

    def barrier(self) -> None:
        """As :meth:`Communicator.barrier`."""
        self._inner.barrier()

    def _contribute(self, decide: Callable[[int], Decision], fill: Fill | None) -> Fill | None:
        """Put in what this rank says: at once, or once ``fill`` is done."""
        self._control[0] = 0
        if self.rank:
            return fill

        def say(ready: Callable[[int, int], None]) -> None:
            if fill is not None:
                fill(ready)
            time_up, checkpoint = decide(self._round)
            self._control[0] = time_up + 2 * checkpoint

        return say
