"""The optimizer contract: a round is a function of (state, rank, size, round, data, collectives), nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.comm.base import Communicator, Exchange
from lambdaml_core.data.base import Data
from lambdaml_core.errors import NotSupported
from lambdaml_core.models.base import Model


class State(NamedTuple):
    """All that survives a round; core saves it. Arrays change in place and are never rebound.

    Attributes:
        params: the model's parameters, flat; equal on all ranks.
        shared: equal on all ranks: functions of earlier shared state and of results of collectives only. Saved once.
        private: this rank's own. Either all ranks have some, if only of no elements, or none has. Saved by each.
    """

    params: NDArray[Any]
    shared: dict[str, NDArray[Any]]
    private: dict[str, NDArray[Any]]


class Worker(NamedTuple):
    """What a round may look at. There is no clock and no I/O in it, so that a replay gives the same bytes.

    Attributes:
        rank, size: this worker and how many there are.
        round: number of this round, from 0; what a cursor or a schedule is computed from.
        rounds: how many are planned; a run may stop before.
        model, data, comm: see their contracts.
        rng: ``rng(purpose)`` is a generator keyed by (seed, rank, round, purpose).
        scratch: ``scratch(name, shape, dtype)`` is a 64-byte aligned array, the same one each time; its contents
            mean nothing between rounds.
        exchange: where an asynchronous optimizer exchanges; None for all others.
        given: whether the run goes on from the parameters of a saved model, and not from those that the model starts
            with: the same on all ranks and in every attempt.
    """

    rank: int
    size: int
    round: int
    rounds: int
    model: Model
    data: Data
    comm: Communicator
    rng: Callable[[str], Generator]
    scratch: Callable[[str, tuple[int, ...], DTypeLike], NDArray[Any]]
    exchange: Exchange | None = None
    given: bool = False


class Optimizer(Protocol):
    """Built as ``factory(options)``; an instance is its frozen options.

    One that not every model can be trained by says what it needs, beside :class:`~lambdaml_core.models.base.Model`, by
    ``needs: ClassVar[frozenset[type]]``: protocols that the model implements, which are checked before a run starts.
    """

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """Mini-batches that a round goes through, at least 1: what epochs are counted by."""

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """The state before round 0.

        Args:
            params: the model's initial parameters, equal on all ranks; they become those of the state.
        """

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """Change ``s`` in place. Returns figures equal on all ranks, among them ``loss``; ``stop`` > 0 ends the run."""


def check_needs(optimizer: Optimizer, model: Model, names: tuple[str, str]) -> None:
    """Refuse a model that lacks what an optimizer ``needs``.

    Args:
        names: of the optimizer and of the model, for the message.

    Raises:
        NotSupported: one line that names both, and the protocol.
    """
    needs: frozenset[type] = getattr(optimizer, "needs", frozenset())
    lacking = sorted(need.__name__ for need in needs if not isinstance(model, need))
    if lacking:
        raise NotSupported(
            f"the optimizer {names[0]} cannot train the model {names[1]}, which has no {', '.join(lacking)}",
            hint="choose an optimizer that follows gradients, such as ga_sgd, or a model that has what it needs",
        )
