"""One scenario, run: attempts of ranks that come and go, and the laws that hold meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from lambdaml_core.comm.base import Arrays, Fill, Pattern
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import Compute, Delete, GetMany, PutMany, Requests
from lambdaml_core.comm.simulator import Process
from lambdaml_core.errors import DeadlineExpired, ResultLost
from lambdaml_core.testing.laws import LawBroken
from lambdaml_core.testing.ledger import Ledger
from lambdaml_core.testing.scenario import (
    OPS,
    SYNCHRONISING,
    Fault,
    Scenario,
    State,
    contribution,
    gathered,
    next_states,
)

_MOST_STEPS = 20_000
_MOST_ATTEMPTS = 12  # of one rank
_QUARTERS = 3  # of a deadline, that pass before somebody is given up


@dataclass
class Attempt:
    """One process of one rank.

    Attributes:
        position: collectives before it are finished.
        quarters: of its deadline, passed without anything.
        replaying: everything it has looked for was there.
        saves: its checkpoints, and those it knew of at its start.
    """

    rank: int
    number: int
    position: int
    planner: Planner
    saves: list[int]
    process: Process = field(init=False)
    quarters: int = 0
    asleep_until: int = 0
    replaying: bool = False
    crashed: bool = False

    def frontier(self) -> int:
        """The second-newest checkpoint is complete: the ranks have met since. The newest may be this rank's alone."""
        return self.saves[-2] if len(self.saves) > 1 else 0

    @property
    def finished(self) -> bool:
        return self.process.done and self.process.error is None and not self.crashed


class World:
    """Runs a scenario and checks it.

    Attributes:
        fired: what went wrong, in words.
        steps: how many there were.
    """

    def __init__(self, scenario: Scenario, pattern: Pattern) -> None:
        self.fired: list[str] = []
        self.steps = 0
        self._scenario, self._pattern = scenario, pattern
        self._states = next_states(scenario)
        self._storage = Ledger(self._needed)
        self._attempts: list[Attempt] = []
        self._written = {0: set(range(scenario.size))}  # checkpoint: the ranks that have written it
        self._restarts: list[tuple[int, int]] = []  # step, rank
        self._effects = [0] * scenario.size
        self._faults: dict[tuple[int, int], list[Fault]] = {}
        for fault in scenario.faults:
            self._faults.setdefault((fault.rank, fault.at), []).append(fault)
        self._evicts = any(fault.kind == "evict" for fault in scenario.faults)
        self._result_evicted = False
        self._finished: dict[int, set[int]] = {}  # collective: the ranks that have finished it
        self._announced: dict[int, list[int]] = {}  # collective: the frontiers announced in it

    def sentence(self) -> str:
        """The scenario in words."""
        return f"{self._scenario}: {'; '.join(self.fired) or 'nothing goes wrong'}."

    def run(self) -> None:
        """Until everybody has ended.

        Raises:
            LawBroken: a law does not hold.
        """
        for rank in range(self._scenario.size):
            self._launch(rank)
        while live := [attempt for attempt in self._attempts if not attempt.process.done] or self._restarts:
            self._restart(self.steps)
            ready = [a for a in self._attempts if not (a.process.done or a.process.waits())]
            awake = [a for a in ready if a.asleep_until <= self.steps] or ready
            if awake:
                order = self._scenario.order
                pick = order[self.steps] if self.steps < len(order) else 0
                self._step(awake[pick % len(awake)])
            elif self._restarts:
                self._restart(min(self._restarts)[0])
            else:
                self._pass_time([a for a in live if isinstance(a, Attempt)])
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise LawBroken("no_hang", f"still going on after {self.steps} steps")
        self._check_end()

    # --- attempts

    def _launch(self, rank: int) -> None:
        s = self._scenario
        number = sum(attempt.rank == rank for attempt in self._attempts)
        if number > _MOST_ATTEMPTS:
            raise LawBroken("no_hang", f"rank {rank} has been started {number} times")
        complete = sorted(save for save, ranks in self._written.items() if len(ranks) == s.size)
        planner = Planner(
            rank=rank,
            size=s.size,
            aggregators=s.aggregators,
            pattern=self._pattern,
            sequence=complete[-1],
            restored=number > 0,
            chunk_bytes=s.chunk_bytes,
            window_bytes=s.window_bytes,
            watch_results=s.watch or number > 0,
            evicts=self._evicts,
        )
        attempt = Attempt(rank, number, complete[-1], planner, complete, replaying=number > 0)
        attempt.process = Process(rank, self._work(attempt), self._storage)
        self._attempts.append(attempt)

    def _restart(self, due: int) -> None:
        for step, rank in sorted(self._restarts):
            if step <= due:
                self._restarts.remove((step, rank))
                self._launch(rank)

    def _work(self, attempt: Attempt) -> Requests:
        """What a worker does: rounds from its checkpoint on."""
        s, planner = self._scenario, attempt.planner
        for index in range(attempt.position, len(s.steps)):
            if s.every is not None:
                planner.frontier = attempt.frontier()
            self._announced.setdefault(index, []).append(index if planner.frontier is None else planner.frontier)
            yield from self._collective(attempt, index)
            attempt.position = index + 1
            attempt.replaying = attempt.replaying and self._all_results_exist(index)
            self._check_deleted(attempt, index)
            if index + 1 in s.saves:
                attempt.saves.append(index + 1)
                self._written.setdefault(index + 1, set()).add(attempt.rank)

    def _collective(self, attempt: Attempt, index: int) -> Requests:
        s, planner, rank = self._scenario, attempt.planner, attempt.rank
        step, state = s.steps[index], self._states[index]
        attempt.replaying = attempt.replaying and self._all_results_exist(index)
        if step.operation == "barrier":
            yield from planner.barrier().run(None)
        elif step.operation == "all_gather":
            collective, contents = planner.all_gather(gathered(rank, index, state))
            yield from collective.run(None)
            for other, result in enumerate(contents.results):
                self._check_numbers(attempt, index, result, gathered(other, index, state))
        else:
            x = contribution(rank, index, state)
            if step.operation == "broadcast":
                yield from planner.broadcast(x, step.root).run(None)
            else:
                fill = self._fill(attempt, index, x) if step.fills else None
                yield from planner.all_reduce(x, OPS[step.ops]).run(fill)
            self._check_numbers(attempt, index, x, self._states[index + 1])

    def _fill(self, attempt: Attempt, index: int, x: State) -> Fill:
        given = {name: a.copy() for name, a in x.items()}
        for a in x.values():
            a.fill(99)

        def fill(ready: object) -> None:
            if attempt.replaying and self._all_results_exist(index):
                raise LawBroken(
                    "no_needless_fill", f"rank {attempt.rank} computes what it brings to collective {index} again"
                )
            for name, a in x.items():
                a[...] = given[name]

        return fill

    # --- steps and faults

    def _step(self, attempt: Attempt) -> None:
        process, rank = attempt.process, attempt.rank
        self._storage.rank = rank
        if process.request is None:
            process.step()
            if process.done:
                self._ended(attempt)
            return
        faults = self._faults.get((rank, self._effects[rank]), [])
        self._effects[rank] += 1
        doing = _doing(process) if faults else ""
        for fault in faults:
            if fault.kind == "crash" and not fault.after:
                self._crash(attempt, fault, f"before {doing}")
                return
            self._before(attempt, fault)
        waited = bool(process.waits_for())
        process.step()
        if waited:
            attempt.quarters = 0
        for fault in faults:
            if fault.kind == "crash":
                self._crash(attempt, fault, f"after {doing}")
                return
            if fault.kind == "lost" and process.lose_acknowledgement():
                self.fired.append(f"rank {rank} does not hear that {doing} succeeded, and tries again")

    def _before(self, attempt: Attempt, fault: Fault) -> None:
        if fault.kind == "duplicate":
            self.fired.append(f"rank {fault.rank} is run twice from before {_doing(attempt.process)}")
            self._launch(fault.rank)
        elif fault.kind == "slow":
            self.fired.append(f"rank {fault.rank} is slow before {_doing(attempt.process)}")
            attempt.asleep_until = self.steps + fault.delay
        elif fault.kind == "evict":
            key = self._storage.evict(fault.delay)
            if key is not None:
                self.fired.append(f"{key} is evicted")
                self._result_evicted |= key.startswith("g0/0-")

    def _crash(self, attempt: Attempt, fault: Fault, when: str) -> None:
        self.fired.append(f"rank {fault.rank} crashes {when} and starts again")
        attempt.crashed = attempt.process.done = True
        self._restarts.append((self.steps + fault.delay, fault.rank))

    def _ended(self, attempt: Attempt) -> None:
        error = attempt.process.error
        if error is None or self._result_evicted:
            return
        if not isinstance(error, ResultLost | DeadlineExpired) or not self._overtaken(attempt):
            raise LawBroken("typed_errors", f"rank {attempt.rank} ends with {type(error).__name__}: {error}")
        mine = [a for a in self._attempts if a.rank == attempt.rank]
        if all(a.process.done and not a.finished for a in mine):
            self._restarts.append((self.steps, attempt.rank))

    def _pass_time(self, waiting: list[Attempt]) -> None:
        """Nobody can go on: a quarter of a deadline passes, then the deadline of somebody who was overtaken."""
        attempt = min(waiting, key=lambda a: a.quarters)
        if attempt.quarters < _QUARTERS:
            attempt.quarters += 1
            attempt.process.give_up_waiting()
            return
        for attempt in waiting:
            if self._overtaken(attempt) or self._result_evicted:
                attempt.process.done = True
                attempt.process.error = DeadlineExpired(f"rank {attempt.rank} has waited too long")
                self._ended(attempt)
                return
        waits = ", ".join(f"rank {a.rank} for {a.process.waits_for()[0]}" for a in waiting)
        raise LawBroken("no_hang", f"everybody waits for ever: {waits}")

    def _overtaken(self, attempt: Attempt) -> bool:
        return any(a.rank == attempt.rank and a.position > attempt.position for a in self._attempts)

    # --- laws

    def _all_results_exist(self, index: int) -> bool:
        return bool(self._finished.get(index)) and index not in self._storage.incomplete

    def _needed(self, sequence: int) -> str | None:
        """Who may still want the results of a collective; None = nobody."""
        s = self._scenario
        if s.every is not None and sequence >= max(c for c, ranks in self._written.items() if len(ranks) == s.size):
            return "which a replacement would look for"
        for rank in range(s.size):
            live = [a.position for a in self._attempts if a.rank == rank and not a.crashed]
            if live and max(live) <= sequence:
                return f"which rank {rank} has not read"
        return None

    def _check_numbers(self, attempt: Attempt, index: int, got: Arrays, want: State) -> None:
        for name, array in want.items():
            if got[name].tobytes() != array.tobytes() or got[name].shape != array.shape:
                raise LawBroken(
                    "same_numbers", f"rank {attempt.rank} has other numbers in {name} after collective {index}"
                )

    def _check_deleted(self, attempt: Attempt, index: int) -> None:
        """Once all ranks have finished a collective, all that is left so far is results to come back to."""
        finished = self._finished.setdefault(index, set())
        finished.add(attempt.rank)
        if self.fired or len(finished) < self._scenario.size:
            return
        frontier = self._frontier(index)
        left = [key for key, place in self._storage.contributions().items() if place.sequence <= index]
        left += [key for key, place in self._storage.results().items() if place.sequence < frontier]
        if left:
            raise LawBroken("no_key_left", f"all ranks have finished collective {index}, and {sorted(left)[0]} is left")

    def _frontier(self, index: int) -> int:
        """The smallest announced when all ranks last met: what is older must be gone."""
        steps = self._scenario.steps[: index + 1]
        met = [i for i, step in enumerate(steps) if step.operation in SYNCHRONISING]
        return min(self._announced[met[-1]]) if met else 0

    def _check_end(self) -> None:
        s, storage = self._scenario, self._storage
        if self._result_evicted:
            return
        for rank in range(s.size):
            if not any(a.finished for a in self._attempts if a.rank == rank):
                raise LawBroken("no_hang", f"rank {rank} has not finished")
        left = storage.contributions().keys() - storage.late
        if not self._evicts:
            attempts = [sum(a.rank == rank for a in self._attempts) for rank in range(s.size)]
            frontier = self._frontier(len(s.steps) - 1)
            left |= {k for k, p in storage.results().items() if p.sequence < frontier and attempts[p.owner] == 1}
        if left:
            raise LawBroken("no_key_left", f"everybody has ended, and {sorted(left)[0]} is left")


def _doing(process: Process) -> str:
    request = process.request
    if isinstance(request, PutMany):
        return f"creating {process.next_key()}"
    if isinstance(request, Delete):
        return f"deleting {process.next_key()}"
    if isinstance(request, GetMany):
        return f"reading {request.keys[0]}" + (f" or {len(request.keys) - 1} others" if len(request.keys) > 1 else "")
    return "computing its contribution" if isinstance(request, Compute) else "making sure of what it has read"
