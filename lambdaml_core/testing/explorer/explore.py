"""The explorer: collectives of a few ranks and their checkpoints under crashes, hand-overs, duplicates, delays and
losses, in any order of their steps.

:func:`explore` runs scenarios by seed. Each is checked against the laws in LAWS while it runs and at its end; the first
that breaks one is made small by Hypothesis, and the failure says in a sentence what happens in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from lambdaml_core.comm.base import Pattern
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.testing.explorer.laws import LawBroken
from lambdaml_core.testing.explorer.scenario import Scenario, random_scenario, simpler
from lambdaml_core.testing.explorer.world import World


@dataclass
class Explored:
    """How much was looked at: scenarios, faults that took effect, generations opened for lost results, steps taken."""

    scenarios: int = 0
    faults: int = 0
    generations: int = 0
    steps: int = 0


def run_scenario(scenario: Scenario, pattern: Pattern = aggregate) -> World:
    """Run one scenario.

    Raises:
        LawBroken: with the sentence that describes it.
    """
    world = World(scenario, pattern)
    try:
        world.run()
    except LawBroken as broken:
        broken.sentence = world.sentence()
        raise
    except Exception as e:
        untyped = LawBroken("typed_errors", f"{type(e).__name__}: {e}")
        untyped.sentence = world.sentence()
        raise untyped from e
    return world


def explore(
    seeds: Iterable[int],
    make: Callable[[int], Scenario] | int,
    *,
    pattern: Pattern = aggregate,
    evicts: bool = False,
) -> Explored:
    """Run the scenarios of these seeds.

    Args:
        make: the number of aggregators, or a function that makes the scenario of a seed.

    Raises:
        LawBroken: a law does not hold; the message has the smallest scenario found, and the seed.
    """
    explored = Explored()
    for seed in seeds:
        scenario = random_scenario(seed, make, evicts=evicts) if isinstance(make, int) else make(seed)
        try:
            world = run_scenario(scenario, pattern)
        except LawBroken as broken:
            raise _smallest(scenario, broken, pattern).told(seed) from broken
        explored.scenarios += 1
        explored.faults += len(world.fired)
        explored.generations += world.generation.number
        explored.steps += world.steps
    return explored


def _smallest(scenario: Scenario, first: LawBroken, pattern: Pattern) -> LawBroken:
    """The same law broken by as little as possible."""
    smallest = first

    def breaks(candidate: Scenario) -> bool:
        nonlocal smallest
        try:
            run_scenario(candidate, pattern)
        except LawBroken as broken:
            if broken.law != first.law:
                return False
            smallest = broken
            return True
        return False

    quick = settings(
        max_examples=1000,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        breaks(find(simpler(scenario), breaks, settings=quick))
    except NoSuchExample:
        return first
    return smallest
