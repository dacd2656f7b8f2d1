"""A simulated storage that knows the laws of what is created and deleted in it."""

from __future__ import annotations

from collections.abc import Callable

from lambdaml_core.comm.keys import Place, parse_key
from lambdaml_core.comm.simulator import SimulatedStorage
from lambdaml_core.comm.wire import decode
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.testing.explorer.attempt import Attempt
from lambdaml_core.testing.explorer.laws import LawBroken


class Ledger(SimulatedStorage):
    """Checks every create and delete.

    Args:
        needed: whether any rank may still want the results of a collective of a generation.

    Attributes:
        actor: who acts.
        late: what was created after the result of its chunk had been stored, and by whom: retries.
        incomplete: generation and number of collectives of which a result has gone.
    """

    actor: Attempt

    def __init__(self, needed: Callable[[int, int], str | None]) -> None:
        super().__init__(StorageCaps(scope="process", creates_once=True, blocks=True))
        self.late: dict[str, Attempt] = {}
        self.incomplete: set[tuple[int, int]] = set()
        self._needed = needed
        self._evicted: dict[str, memoryview] = {}
        self._made: dict[str, tuple[int, bytes]] = {}
        self._results: set[Place] = set()

    def create(self, key: str, parts: Parts, at: float) -> bool:
        place, rank = self._own(key), self.actor.rank
        payload = bytes(decode(b"".join(parts)).payload)
        maker, before = self._made.setdefault(key, (rank, payload))
        again = place.is_result and self.actor.quarters > 0  # whoever has a result may bring it back
        if maker != rank and not again:
            raise LawBroken("create_once", f"{key} is made by rank {maker} and by rank {rank}")
        if payload != before:
            raise LawBroken("create_once", f"rank {rank} makes {key} twice, with other bytes")
        created = super().create(key, parts, at)
        result = place._replace(is_result=True)
        if created and result in self._results:
            self.late[key] = self.actor
        elif created and place.is_result:
            self._results.add(place)
        return created

    def delete(self, key: str) -> None:
        place = self._own(key)
        if key in self.values:
            who = f"rank {self.actor.rank} deletes {key}"
            if place._replace(is_result=True) not in self._results:
                raise LawBroken("contributions_stay", f"{who}, whose result is not stored")
            why = self._needed(place.generation, place.sequence) if place.is_result else None
            if why is not None:
                raise LawBroken("results_stay", f"{who}, {why}")
            if place.is_result:
                self.incomplete.add((place.generation, place.sequence))
        super().delete(key)

    def _own(self, key: str) -> Place:
        place = locate(key)
        if not key.startswith(self.actor.planner.folder):
            raise LawBroken("own_keys", f"{key} is no key of generation {self.actor.planner.folder[1:-1]}")
        return place

    def evict(self, number: int) -> str | None:
        """Drop one of the values; its key, if there was one. What evicts hands out copies: readers keep theirs."""
        if not self.values:
            return None
        key = sorted(self.values)[number % len(self.values)]
        place = locate(key)
        if place.is_result:
            self.incomplete.add((place.generation, place.sequence))
        self._evicted[key] = self.values.pop(key)
        return key

    def intact(self, key: str, data: Buffer) -> bool:
        return self._evicted.get(key) is data or super().intact(key, data)

    def left(self, generation: int) -> dict[str, Place]:
        """What there is of a generation."""
        places = {key: locate(key) for key in self.values}
        return {key: place for key, place in places.items() if place.generation == generation}


def locate(key: str) -> Place:
    """Which chunk's value a key names.

    Raises:
        LawBroken: the key was not made by ``call.key``.
    """
    place = parse_key(key)
    if place is None:
        raise LawBroken("own_keys", f"{key} is not a key that call.key makes")
    return place
