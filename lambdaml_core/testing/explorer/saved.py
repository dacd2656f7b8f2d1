"""Checkpoints of a simulated run: who has written what, and what a worker that starts finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.testing.explorer.scenario import State, initial_private, initial_state


class Snapshot(NamedTuple):
    """All that a rank needs to go on: ``position`` collectives are finished."""

    position: int
    state: State
    private: NDArray[np.float32]

    def copy(self) -> Snapshot:
        """The same in memory of its own."""
        return Snapshot(self.position, {name: a.copy() for name, a in self.state.items()}, self.private.copy())


START = Snapshot(0, initial_state(), initial_private())


class Checkpoints:
    """Those of one generation. Shared state is written by rank 0, private state by each rank.

    Args:
        base: what each rank of the generation starts from.
    """

    def __init__(self, size: int, private: bool, base: Mapping[int, Snapshot]) -> None:
        self._size, self._private = size, private
        self._parts = {base[0].position: dict(base)}
        self._torn: set[int] = set()
        self._handed: dict[int, Snapshot] = {}

    def writes(self, rank: int) -> bool:
        """Whether this rank has a part in checkpoints."""
        return self._private or rank == 0

    def write(self, rank: int, snapshot: Snapshot) -> None:
        """Store a part, unless it is there."""
        self._parts.setdefault(snapshot.position, {}).setdefault(rank, snapshot)

    def hand_over(self, rank: int, snapshot: Snapshot) -> None:
        """Store all that the successor of one rank needs."""
        self._handed[rank] = snapshot

    def tear(self) -> int | None:
        """Make the newest complete checkpoint unreadable, unless it is the base. Returns its position."""
        *older, newest = self.complete()
        if not older:
            return None
        self._torn.add(newest)
        return newest

    def complete(self) -> list[int]:
        """Positions of those that can be read, in order."""
        return [position for position in self.written() if position not in self._torn]

    def written(self) -> list[int]:
        """Positions of those of which all parts were written, in order."""
        whole = self._size if self._private else 1
        return sorted(position for position, parts in self._parts.items() if len(parts) >= whole)

    def newest(self, rank: int) -> Snapshot:
        """Of the complete ones, as this rank sees it; or what was handed over to it, if that is newer."""
        parts = self._parts[self.complete()[-1]]
        position, state, _ = parts[0]
        found = Snapshot(position, state, parts[rank].private if self._private else initial_private())
        return max(found, self._handed.get(rank, found), key=lambda snapshot: snapshot.position)

    def bases(self) -> dict[int, Snapshot]:
        """The newest complete one, for all ranks: what a new generation starts from."""
        self._handed.clear()
        return {rank: self.newest(rank).copy() for rank in range(self._size)}
