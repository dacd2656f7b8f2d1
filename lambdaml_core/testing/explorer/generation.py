"""All ranks of one generation of a simulated run: who is there, how far they are, and what they may want."""

from __future__ import annotations

from collections.abc import Mapping

from lambdaml_core.comm.base import Pattern
from lambdaml_core.comm.planner import Planner
from lambdaml_core.testing.explorer.attempt import Attempt
from lambdaml_core.testing.explorer.laws import LawBroken
from lambdaml_core.testing.explorer.ledger import Ledger
from lambdaml_core.testing.explorer.saved import Checkpoints, Snapshot
from lambdaml_core.testing.explorer.scenario import SYNCHRONISING, Scenario, State

_MOST_ATTEMPTS = 12  # of one rank


class Generation:
    """See :class:`~lambdaml_core.testing.explorer.attempt.Surroundings`.

    Args:
        bases: what each rank starts from.

    Attributes:
        disturbed: something has gone wrong in it.
        loses: results may be gone that somebody needs.
    """

    def __init__(
        self,
        number: int,
        scenario: Scenario,
        states: list[State],
        pattern: Pattern,
        storage: Ledger,
        bases: Mapping[int, Snapshot],
    ) -> None:
        self.number, self.scenario, self.states = number, scenario, states
        self.checkpoints = Checkpoints(scenario.size, scenario.private, bases)
        self.attempts: list[Attempt] = []
        self.disturbed = number > 0
        self.loses = False
        self._pattern, self._storage = pattern, storage
        self._finished: dict[int, set[int]] = {}  # collective: the ranks that have finished it
        self._announced: dict[int, list[int]] = {}  # collective: the frontiers announced in it

    def launch(self, rank: int) -> None:
        """Start the next attempt of a rank."""
        s, others = self.scenario, self.of(rank)
        number = len(others)
        if number > _MOST_ATTEMPTS:
            raise LawBroken("no_hang", f"rank {rank} has been started {number} times")
        snapshot = self.checkpoints.newest(rank)
        planner = Planner(
            rank=rank,
            size=s.size,
            aggregators=s.aggregators,
            pattern=self._pattern,
            generation=self.number,
            sequence=snapshot.position,
            restored=number > 0,
            chunk_bytes=s.chunk_bytes,
            window_bytes=s.window_bytes,
            watch_results=s.watch or number > 0,
        )
        if number > 0:
            planner.adopt(self._storage.values)
        attempt = Attempt(self, self._storage, planner, number, snapshot)
        for other in others:
            if not other.process.done:
                other.twin = attempt.twin = True
        self.attempts.append(attempt)

    def of(self, rank: int) -> list[Attempt]:
        """A rank's attempts, the newest last."""
        return [attempt for attempt in self.attempts if attempt.rank == rank]

    def past(self, rank: int, position: int) -> bool:
        """Whether a rank's signs of life say that it has finished more than so many collectives."""
        attempts = self.of(rank)
        return any(a.position > position for a in attempts if a.finished or a is attempts[-1])

    def overtaken(self, attempt: Attempt) -> bool:
        """Whether its rank has a newer attempt, so that it may leave."""
        return attempt is not self.of(attempt.rank)[-1]

    def needed(self, sequence: int) -> str | None:
        """Who may still want the results of a collective; None = nobody."""
        oldest = self.checkpoints.written()[-2:][0]  # the newest may turn out to be unreadable
        if self.scenario.every is not None and sequence >= oldest:
            return "which a replacement would look for"
        for rank in range(self.scenario.size):
            live = [a.position for a in self.of(rank) if not (a.crashed or a.left)]
            if live and max(live) <= sequence:
                return f"which rank {rank} has not read"
        return None

    # --- what attempts tell and ask

    def entered(self, attempt: Attempt, index: int) -> None:
        planner = attempt.planner
        self._announced.setdefault(index, []).append(index if planner.frontier is None else planner.frontier)
        attempt.replaying = attempt.replaying and self.all_results_exist(index)

    def all_results_exist(self, index: int) -> bool:
        return bool(self._finished.get(index)) and (self.number, index) not in self._storage.incomplete

    def finished(self, attempt: Attempt, index: int) -> None:
        """Once all ranks have finished a collective, all that is left so far is results to come back to."""
        attempt.replaying = attempt.replaying and self.all_results_exist(index)
        finished = self._finished.setdefault(index, set())
        finished.add(attempt.rank)
        if self.disturbed or len(finished) < self.scenario.size:
            return
        frontier = self._frontier(index)
        for key, place in sorted(self._storage.left(self.number).items()):
            if place.sequence < frontier or (place.sequence <= index and not place.is_result):
                raise LawBroken("no_key_left", f"all ranks have finished collective {index}, and {key} is left")

    # --- the end

    def check_end(self) -> None:
        """Everybody has finished, and nothing is left but results to come back to and what retries made too late."""
        for rank in range(self.scenario.size):
            if not any(attempt.finished for attempt in self.of(rank)):
                raise LawBroken("no_hang", f"rank {rank} has not finished")
        last = len(self.scenario.steps) - 1
        starts = [max(a.start for a in self.of(rank) if a.finished) for rank in range(self.scenario.size)]
        frontiers = [self._frontier(last, start) for start in starts]
        for key, place in sorted(self._storage.left(self.number).items()):
            creator = self._storage.late.get(key)
            excused = creator is not None and (self.loses or creator.twin or not creator.finished)
            # where results are brought back, they say less of frontiers
            passed = place.sequence < frontiers[place.owner] and not self.loses
            if (passed or not place.is_result) and not excused:
                raise LawBroken("no_key_left", f"everybody has ended, and {key} is left")

    def _frontier(self, index: int, start: int = 0) -> int:
        """The smallest announced when all ranks last met, up to a collective: an owner that has been there since
        ``start`` has deleted what is older."""
        steps = self.scenario.steps
        met = [i for i in range(start, index + 1) if steps[i].operation in SYNCHRONISING and i in self._announced]
        return min(self._announced[met[-1]]) if met else 0
