"""A simulated storage that knows the laws of what is created and deleted in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from lambdaml_core.comm.simulator import SimulatedStorage
from lambdaml_core.comm.wire import decode
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.testing.laws import LawBroken

_KEY = re.compile(r"g0/(0|[a-z][a-z0-9_]*)-(\d+)/(\d+)\.(\d+)((?:\.[a-z0-9_]+)*)")


class Place(NamedTuple):
    """A chunk of a collective."""

    sequence: int
    chunk: int
    owner: int


class Ledger(SimulatedStorage):
    """Checks every create and delete.

    Args:
        needed: whether any rank may still want the results of a collective.

    Attributes:
        rank: who acts.
        late: contributions that were created after the result of their chunk: retries, which nobody waits for.
        incomplete: collectives of which a result has gone.
    """

    def __init__(self, needed: Callable[[int], str | None]) -> None:
        super().__init__(StorageCaps(scope="process", creates_once=True, blocks=True))
        self.rank = 0
        self.late: set[str] = set()
        self.incomplete: set[int] = set()
        self._needed = needed
        self._evicted: dict[str, memoryview] = {}
        self._made: dict[str, tuple[int, bytes]] = {}
        self._results: set[Place] = set()

    def create(self, key: str, parts: Parts, at: float) -> bool:
        place, is_result = locate(key)
        payload = bytes(decode(b"".join(parts)).payload)
        maker, before = self._made.setdefault(key, (self.rank, payload))
        if maker != self.rank:
            raise LawBroken("create_once", f"{key} is made by rank {maker} and by rank {self.rank}")
        if payload != before:
            raise LawBroken("create_once", f"rank {self.rank} makes {key} twice, with other bytes")
        created = super().create(key, parts, at)
        if created and is_result:
            self._results.add(place)
        elif created and place in self._results:
            self.late.add(key)
        return created

    def delete(self, key: str) -> None:
        place, is_result = locate(key)
        if key in self.values:
            if not is_result and place not in self._results:
                raise LawBroken("contributions_stay", f"rank {self.rank} deletes {key}, whose result is not stored")
            why = self._needed(place.sequence) if is_result else None
            if why is not None:
                raise LawBroken("results_stay", f"rank {self.rank} deletes {key}, {why}")
            if is_result:
                self.incomplete.add(place.sequence)
        super().delete(key)

    def evict(self, number: int) -> str | None:
        """Drop one of the values; its key, if there was one. What evicts hands out copies: readers keep theirs."""
        if not self.values:
            return None
        key = sorted(self.values)[number % len(self.values)]
        place, is_result = locate(key)
        if is_result:
            self.incomplete.add(place.sequence)
        self._evicted[key] = self.values.pop(key)
        return key

    def intact(self, key: str, data: Buffer) -> bool:
        return self._evicted.get(key) is data or super().intact(key, data)

    def contributions(self) -> dict[str, Place]:
        """Those that are there."""
        return {key: locate(key)[0] for key in self.values if not locate(key)[1]}

    def results(self) -> dict[str, Place]:
        """Those that are there."""
        return {key: locate(key)[0] for key in self.values if locate(key)[1]}


def locate(key: str) -> tuple[Place, bool]:
    """Whose value a key names, and whether it is a result.

    Raises:
        LawBroken: the key was not made by ``call.key``.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise LawBroken("own_keys", f"{key} is not a key that call.key makes")
    folder, owner, sequence, chunk, rest = match.groups()
    return Place(int(sequence), int(chunk), int(owner)), folder == "0" and not rest
