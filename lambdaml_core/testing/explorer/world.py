"""One scenario, run: attempts of ranks that come and go in any order, and what goes wrong meanwhile."""

from __future__ import annotations

from lambdaml_core.comm.base import Pattern
from lambdaml_core.comm.schedule import Compute, Delete, GetMany, PutMany
from lambdaml_core.comm.simulator import Process
from lambdaml_core.errors import ResultLost
from lambdaml_core.testing.explorer.attempt import Attempt
from lambdaml_core.testing.explorer.generation import Generation
from lambdaml_core.testing.explorer.laws import LawBroken
from lambdaml_core.testing.explorer.ledger import Ledger, locate
from lambdaml_core.testing.explorer.saved import START
from lambdaml_core.testing.explorer.scenario import Fault, Scenario, next_states

_MOST_STEPS = 20_000
_MOST_GENERATIONS = 6
_QUARTERS = 3  # of a deadline, that pass before signs of life are believed


class World:
    """Runs a scenario and checks it.

    Attributes:
        fired: what went wrong, in words.
        steps: how many there were.
        generation: the newest.
    """

    def __init__(self, scenario: Scenario, pattern: Pattern) -> None:
        self.fired: list[str] = []
        self.steps = 0
        self._scenario, self._pattern = scenario, pattern
        self._states = next_states(scenario)
        self._storage = Ledger(self._needed)
        self._restarts: list[tuple[int, int]] = []  # step, rank
        self._effects = [0] * scenario.size
        self._torn = 0
        self._faults: dict[tuple[int, int], list[Fault]] = {}
        for fault in scenario.faults:
            self._faults.setdefault((fault.rank, fault.at), []).append(fault)
        self._forsaken: list[Attempt] = []  # of older generations: they have not noticed yet
        bases = dict.fromkeys(range(scenario.size), START)
        self.generation = Generation(0, scenario, self._states, pattern, self._storage, bases)

    def sentence(self) -> str:
        """The scenario in words."""
        return f"{self._scenario}: {'; '.join(self.fired) or 'nothing goes wrong'}."

    def run(self) -> None:
        """Until everybody has ended.

        Raises:
            LawBroken: a law does not hold.
        """
        for rank in range(self._scenario.size):
            self.generation.launch(rank)
        while self._restarts or not all(attempt.process.done for attempt in self.generation.attempts):
            self._restart(self.steps)
            awake = self._awake()
            if awake:
                order = self._scenario.order
                pick = order[self.steps] if self.steps < len(order) else 0
                self._step(awake[pick % len(awake)])
            elif self._restarts:
                self._restart(min(self._restarts)[0])
            else:
                self._pass_time()
            for attempt in self.generation.attempts:
                attempt.pass_step()
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise LawBroken("no_hang", f"still going on after {self.steps} steps")
        self.generation.check_end()

    # --- attempts

    def _awake(self) -> list[Attempt]:
        """Who can do something."""
        self._forsaken = [a for a in self._forsaken if not (a.process.done or a.process.waits())]
        attempts = [*self.generation.attempts, *self._forsaken]
        ready = [a for a in attempts if not (a.process.done or a.process.waits())]
        return [a for a in ready if a.asleep_until <= self.steps] or ready

    def _restart(self, due: int) -> None:
        for step, rank in sorted(self._restarts):
            if step <= due:
                self._restarts.remove((step, rank))
                self.generation.launch(rank)

    def _open_generation(self) -> None:
        """All ranks start again from the newest complete checkpoint; the old ones leave once they notice."""
        old = self.generation
        if old.number == _MOST_GENERATIONS:
            raise LawBroken("no_hang", f"there have been {old.number} generations")
        self._forsaken += [attempt for attempt in old.attempts if not attempt.process.done]
        self._restarts.clear()
        self.generation = Generation(
            old.number + 1, self._scenario, self._states, self._pattern, self._storage, old.checkpoints.bases()
        )
        for rank in range(self._scenario.size):
            self.generation.launch(rank)

    def _ended(self, attempt: Attempt) -> None:
        error, generation = attempt.process.error, self.generation
        if error is not None and not isinstance(error, ResultLost):
            raise LawBroken("typed_errors", f"rank {attempt.rank} ends with {type(error).__name__}: {error}")
        if attempt not in generation.attempts or (error is None and not attempt.left):
            return
        if attempt.left:
            self._restarts.append((self.steps, attempt.rank))
        elif generation.overtaken(attempt):
            return
        elif generation.checkpoints.complete()[-1] > attempt.start and (attempt.twin or generation.loses):
            self._restarts.append((self.steps, attempt.rank))
        elif generation.loses:
            self.fired.append(f"rank {attempt.rank} finds a result lost, and all start again")
            self._open_generation()
        else:
            raise LawBroken("typed_errors", f"rank {attempt.rank} ends with {type(error).__name__}: {error}")

    # --- steps and faults

    def _step(self, attempt: Attempt) -> None:
        process, rank = attempt.process, attempt.rank
        self._storage.actor = attempt
        if process.request is None:
            process.step()
            if process.done:
                self._ended(attempt)
            return
        faults = self._faults.get((rank, self._effects[rank]), [])
        self._effects[rank] += 1
        doing = _doing(process) if faults else ""
        for fault in faults:
            if fault.kind in ("crash", "leave") and not fault.after:
                self._end(attempt, fault, f"before {doing}")
                return
            self._before(attempt, fault, doing)
        if isinstance(process.request, PutMany) and attempt.replaying and self._replays(attempt):
            raise LawBroken("no_needless_put", f"rank {rank} is {doing or _doing(process)}, whose result it has found")
        waited = bool(process.waits_for())
        process.step()
        if waited:
            attempt.quarters = 0
        for fault in faults:
            if fault.kind in ("crash", "leave"):
                self._end(attempt, fault, f"after {doing}")
                return
            if fault.kind == "lost" and process.lose_acknowledgement():
                self._fire(f"rank {rank} does not hear that {doing} succeeded, and tries again")

    def _replays(self, attempt: Attempt) -> bool:
        return attempt in self.generation.attempts and self.generation.all_results_exist(attempt.position)

    def _fire(self, what: str) -> None:
        self.fired.append(what)
        self.generation.disturbed = True

    def _before(self, attempt: Attempt, fault: Fault, doing: str) -> None:
        if fault.kind == "duplicate":
            self._fire(f"rank {fault.rank} is run twice from before {doing}")
            self.generation.launch(fault.rank)
        elif fault.kind == "slow":
            self._fire(f"rank {fault.rank} is slow before {doing}")
            attempt.asleep_until = self.steps + fault.delay
        elif fault.kind == "hand_over":
            self._fire(f"rank {fault.rank} hands over after the collective in which it is {doing}")
            attempt.leaving = True
        elif fault.kind == "torn":
            position = self.generation.checkpoints.tear()
            if position is not None:
                self._fire(f"the checkpoint after {position} collectives cannot be read any more")
                self._torn += 1
                self.generation.loses |= self._torn > 1
        elif fault.kind == "evict":
            key = self._storage.evict(fault.delay)
            if key is not None:
                self._fire(f"{key} is evicted")
                self.generation.loses |= locate(key).is_result

    def _end(self, attempt: Attempt, fault: Fault, when: str) -> None:
        crashes = fault.kind == "crash"
        self._fire(f"rank {fault.rank} {'crashes' if crashes else 'leaves'} {when} and starts again")
        if not crashes:
            attempt.end_write()
        attempt.crashed = attempt.process.done = True
        if attempt in self.generation.attempts:
            self._restarts.append((self.steps + fault.delay, fault.rank))

    # --- time

    def _pass_time(self) -> None:
        """Nobody can go on: a quarter of everybody's deadline passes, then one is told that a result is lost."""
        waiting = [attempt for attempt in self.generation.attempts if not attempt.process.done]
        attempt = min(waiting, key=lambda a: a.quarters)
        if attempt.quarters < _QUARTERS:
            attempt.quarters += 1
            attempt.process.give_up_waiting()
            return
        for attempt in waiting:
            if self._is_lost(attempt):
                attempt.process.done = True
                attempt.process.error = ResultLost(f"the others have gone past rank {attempt.rank}")
                self._ended(attempt)
                return
        waits = ", ".join(f"rank {a.rank} for {a.process.waits_for()[0]}" for a in waiting)
        raise LawBroken("no_hang", f"everybody waits for ever: {waits}")

    def _is_lost(self, attempt: Attempt) -> bool:
        """It is overtaken, or a rank that it waits for is past what it waits for."""
        past = any(self.generation.past(rank, attempt.position) for rank in attempt.process.waits_for_ranks())
        return past or self.generation.overtaken(attempt)

    def _needed(self, generation: int, sequence: int) -> str | None:
        return self.generation.needed(sequence) if generation == self.generation.number else None


def _doing(process: Process) -> str:
    request = process.request
    if isinstance(request, PutMany):
        return f"creating {process.next_key()}"
    if isinstance(request, Delete):
        return f"deleting {process.next_key()}"
    if isinstance(request, GetMany):
        return f"reading {request.keys[0]}" + (f" or {len(request.keys) - 1} others" if len(request.keys) > 1 else "")
    return "computing" if isinstance(request, Compute) else "making sure of what it has read"
