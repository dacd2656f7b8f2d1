"""One process of one rank in a simulated run: collectives, and a checkpoint now and then."""

from __future__ import annotations

from typing import Protocol

from lambdaml_core.comm.base import Arrays, Fill
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import Compute, Requests
from lambdaml_core.comm.simulator import Process, SimulatedStorage
from lambdaml_core.testing.explorer.laws import LawBroken
from lambdaml_core.testing.explorer.saved import Checkpoints, Snapshot
from lambdaml_core.testing.explorer.scenario import OPS, Scenario, State, contribution, gathered, next_private


class Surroundings(Protocol):
    """What an attempt knows of the generation that it is in."""

    scenario: Scenario
    states: list[State]
    checkpoints: Checkpoints

    def entered(self, attempt: Attempt, index: int) -> None:
        """It begins a collective; the frontier is settled."""

    def finished(self, attempt: Attempt, index: int) -> None:
        """It has finished a collective."""

    def all_results_exist(self, index: int) -> bool:
        """Whether somebody has finished the collective, and nothing of it is gone."""


class Attempt:
    """What a worker does, from a snapshot to the end.

    Attributes:
        start, position: collectives that were finished when it started, and that are now.
        saves: checkpoints that it knows to be complete, its own included.
        writing: a part of a checkpoint that is on its way to the store, for so many more steps of everybody.
        quarters: of its deadline, passed without anything.
        asleep_until: a step.
        replaying: all that it has looked for was there.
        twin: another attempt of its rank has run at the same time.
        crashed: it was killed. ``leaving``: it hands over when the collective is done. ``left``: it has.
    """

    def __init__(
        self, world: Surroundings, storage: SimulatedStorage, planner: Planner, number: int, snapshot: Snapshot
    ) -> None:
        self.rank, self.number, self.planner = planner.rank, number, planner
        self.start = self.position = snapshot.position
        self.saves = world.checkpoints.complete()
        self.writing: Snapshot | None = None
        self._steps_to_write = 0
        self.quarters = self.asleep_until = 0
        self.replaying = number > 0
        self.twin = self.crashed = self.leaving = self.left = False
        self._world = world
        _, self._state, self._private = snapshot.copy()
        if world.scenario.every is not None:
            planner.frontier = self.frontier()
        self.process = Process(self.rank, self._work(), storage)

    @property
    def finished(self) -> bool:
        return self.process.done and self.process.error is None and not (self.crashed or self.left)

    def frontier(self) -> int:
        """The second-newest checkpoint: one that it has written a newer one than is known to be complete by all ranks
        together. It stays until then, should the newest be unreadable."""
        return self.saves[-2] if len(self.saves) > 1 else 0

    def pass_step(self) -> None:
        """Somebody has done a step."""
        self._steps_to_write -= 1
        if self._steps_to_write < 0 and not self.process.done:
            self.end_write()

    def end_write(self) -> None:
        """The store acknowledges the part of a checkpoint that is on its way."""
        if self.writing is not None:
            self._world.checkpoints.write(self.rank, self.writing)
            self._advance(self.writing.position)
            self.writing = None

    # --- work

    def _work(self) -> Requests:
        world = self._world
        for index in range(self.position, len(world.scenario.steps)):
            world.entered(self, index)
            yield from self._collective(index)
            self.position = index + 1
            world.finished(self, index)
            if self.position in world.scenario.saves:
                yield from self._save()
            if self.leaving and self.position < len(world.scenario.steps):
                yield Compute(self._hand_over)
                return
        yield Compute(self._end_write)

    def _save(self) -> Requests:
        if not self._world.checkpoints.writes(self.rank):
            self._advance(self.position)
            return
        if self.writing is not None:
            yield Compute(self._end_write)
        self.writing = self.snapshot()
        self._steps_to_write = self._world.scenario.writing

    def snapshot(self) -> Snapshot:
        """What it has now, in memory of its own."""
        return Snapshot(self.position, self._state, self._private).copy()

    def _advance(self, position: int) -> None:
        self.saves.append(position)
        self.planner.frontier = self.frontier()

    def _hand_over(self, ready: object) -> None:
        self.end_write()
        self._world.checkpoints.hand_over(self.rank, self.snapshot())
        self.left = True

    def _end_write(self, ready: object) -> None:
        self.end_write()

    # --- collectives

    def _collective(self, index: int) -> Requests:
        scenario, planner = self._world.scenario, self.planner
        step = scenario.steps[index]
        if step.operation == "barrier":
            yield from planner.barrier().run(None)
        elif step.operation == "all_gather":
            collective, contents = planner.all_gather(gathered(self.rank, index, self._state))
            yield from collective.run(None)
            for other, result in enumerate(contents.results):
                self._check_numbers(index, result, gathered(other, index, self._world.states[index]))
        else:
            x = contribution(self.rank, index, self._state, self._private)
            if scenario.private:  # what is kept is computed whether or not the result exists
                self._private[...] = next_private(self._private, x)
            if step.operation == "broadcast":
                yield from planner.broadcast(x, step.root).run(None)
            else:
                fill = self._fill(index, x) if step.fills and not scenario.private else None
                yield from planner.all_reduce(x, OPS[step.ops]).run(fill)
            self._check_numbers(index, x, self._world.states[index + 1])
            for name, a in x.items():
                self._state[name][...] = a

    def _fill(self, index: int, x: State) -> Fill:
        given = {name: a.copy() for name, a in x.items()}
        for a in x.values():
            a.fill(99)

        def fill(ready: object) -> None:
            if self.replaying and self._world.all_results_exist(index):
                raise LawBroken(
                    "no_needless_fill", f"rank {self.rank} computes what it brings to collective {index} again"
                )
            for name, a in x.items():
                a[...] = given[name]

        return fill

    def _check_numbers(self, index: int, got: Arrays, want: State) -> None:
        for name, array in want.items():
            if got[name].tobytes() != array.tobytes() or got[name].shape != array.shape:
                raise LawBroken(
                    "same_numbers", f"rank {self.rank} has other numbers in {name} after collective {index}"
                )
