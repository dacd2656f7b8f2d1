"""Optimizers that are looked at while they work: what they do is noted, and what is around them is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.comm.base import Arrays, Communicator, Fill, Op
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.testing.optimizer_laws.ranks import copy_state

T = TypeVar("T")


class Asked(NamedTuple):
    """A collective, as far as all ranks must ask for the same.

    Attributes:
        round: -1 at the start.
        how: what is folded, or who is the root.
        arrays: name, dtype and shape of each; None where shapes may differ between ranks.
        fills: whether ``fill`` computes the contribution.
    """

    round: int
    operation: str
    how: Any
    arrays: tuple[tuple[str, str, tuple[int, ...] | None], ...]
    fills: bool


class Witness:
    """Hands everything on, and notes it.

    Attributes:
        given: a copy of the parameters to start from.
        states: copies of the state: before the first round of this attempt, and after each.
        figures: what each round returned.
        asked: the collectives, in order.
        number, state: the round under way, -1 at the start; and its state.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.given: NDArray[Any] | None = None
        self.states: list[State] = []
        self.figures: list[Mapping[str, float]] = []
        self.asked: list[Asked] = []
        self.number = -1
        self.state: State | None = None

    def steps_per_round(self, steps_per_epoch: int) -> int:
        return self.optimizer.steps_per_round(steps_per_epoch)

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        self.given = params.copy()
        return self.optimizer.start(self.seen(w), params)

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        if not self.states:
            self.states.append(copy_state(s))
        self.state, self.number = s, w.round
        figures = self.optimizer.round(self.seen(w), s)
        self.states.append(copy_state(s))
        self.figures.append(figures)
        return figures

    def seen(self, w: Worker) -> Worker:
        """What the optimizer gets to see."""
        return w._replace(comm=_Spy(w.comm, self))

    def exchange(self, asked: Asked, do: Callable[[], T]) -> T:
        """A collective is made."""
        self.asked.append(asked)
        return do()

    def fill(self, x: Arrays, do: Callable[[], None]) -> None:
        """A contribution is computed."""
        do()


class _Spy:
    """The communicator that an optimizer gets."""

    def __init__(self, inner: Communicator, witness: Witness) -> None:
        self.rank, self.size = inner.rank, inner.size
        self._inner, self._witness = inner, witness

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        def looked_at(ready: Callable[[int, int], None]) -> None:
            assert fill is not None
            self._witness.fill(x, lambda: fill(ready))

        how = op if isinstance(op, str) else tuple(op.items())

        def do() -> None:
            self._inner.all_reduce(x, op, fill=looked_at if fill else None)

        self._made("all_reduce", x, do, how, fills=fill is not None)

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        return self._made("all_gather", x, lambda: self._inner.all_gather(x))

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        self._made("broadcast", x, lambda: self._inner.broadcast(x, root), root)

    def barrier(self) -> None:
        self._made("barrier", {}, self._inner.barrier)

    def _made(self, operation: str, x: Arrays, do: Callable[[], T], how: Any = None, *, fills: bool = False) -> T:
        shapes = operation != "all_gather"
        arrays = tuple((name, a.dtype.str, a.shape if shapes else None) for name, a in x.items())
        return self._witness.exchange(Asked(self._witness.number, operation, how, arrays, fills), do)


class Spoiled(Witness):
    """All scratch memory holds something else at the beginning of each round."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._scratch: dict[int, NDArray[Any]] = {}

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        for array in self._scratch.values():
            _spoil(array)
        return super().round(w, s)

    def seen(self, w: Worker) -> Worker:
        def scratch(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
            array = w.scratch(name, shape, dtype)
            if id(array) not in self._scratch:
                self._scratch[id(array)] = array
                _spoil(array)
            return array

        return super().seen(w)._replace(scratch=scratch)


def _spoil(array: NDArray[Any]) -> None:
    array[...] = np.nan if array.dtype.kind == "f" else 77 if array.dtype.kind in "iu" else 1
