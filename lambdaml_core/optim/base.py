"""The optimizer contract: a round is a function of (state, rank, size, round, data, collectives), nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray

from lambdaml_core.comm.base import Communicator
from lambdaml_core.data.base import Data
from lambdaml_core.models.base import Model


class State(NamedTuple):
    """All that survives a round; core saves it. Arrays change in place and are never rebound.

    Attributes:
        params: the model's parameters, flat; equal on all ranks.
        shared: equal on all ranks: functions of earlier shared state and of results of collectives only. Saved once.
        private: this rank's own. Saved by each rank that has any.
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


class Optimizer(Protocol):
    """Built as ``factory(options)``; an instance is its frozen options."""

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """Mini-batches that a round goes through, at least 1: what epochs are counted by."""

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """The state before round 0.

        Args:
            params: the model's initial parameters, equal on all ranks; they become those of the state.
        """

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """Change ``s`` in place. Returns figures equal on all ranks, among them ``loss``; ``stop`` > 0 ends the run."""
