"""The explorer finds bugs that are planted in how runs recover: checkpoints, hand-overs, adoption, lost results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambdaml_core.comm.base import Call, Fill
from lambdaml_core.comm.collective import Collective
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import PutMany, Requests
from lambdaml_core.testing.explorer import LawBroken, explore
from lambdaml_core.testing.explorer.attempt import Attempt
from lambdaml_core.testing.explorer.generation import Generation
from lambdaml_core.testing.explorer.saved import Checkpoints, Snapshot
from lambdaml_core.testing.explorer.scenario import Kind, Scenario, initial_private, random_scenario

SEEDS = range(2000)  # the bug is found long before


def found(aggregators: int = 2, *, evicts: bool = False, **settings: Any) -> LawBroken:
    """What the explorer says of a bug in scenarios with these settings; fails if it says nothing."""

    def make(seed: int) -> Scenario:
        return replace(random_scenario(seed, aggregators, evicts=evicts), **settings)

    with pytest.raises(LawBroken) as broken:
        explore(SEEDS, make)
    return broken.value


def only(kind: Kind) -> Callable[[int], Scenario]:
    """Scenarios in which nothing else goes wrong."""

    def make(seed: int) -> Scenario:
        scenario = random_scenario(seed, 2)
        return replace(scenario, every=1, faults=tuple(replace(fault, kind=kind) for fault in scenario.faults))

    return make


# --- checkpoints --------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_not_copied_changes_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def live(attempt: Attempt) -> Snapshot:
        return Snapshot(attempt.position, attempt._state, attempt._private)

    monkeypatch.setattr(Attempt, "snapshot", live)
    assert found(every=1, writing=20).law == "same_numbers"


def test_private_state_that_is_not_restored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Checkpoints.newest

    def shared_only(checkpoints: Checkpoints, rank: int) -> Snapshot:
        return right(checkpoints, rank)._replace(private=initial_private())

    monkeypatch.setattr(Checkpoints, "newest", shared_only)
    assert found(every=1, private=True).law in ("same_numbers", "create_once")


def test_a_checkpoint_without_the_parts_of_all_ranks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_rank_0(checkpoints: Checkpoints) -> list[int]:
        return sorted(position for position, parts in checkpoints._parts.items() if 0 in parts)

    def any_private(checkpoints: Checkpoints, rank: int) -> Snapshot:
        parts = checkpoints._parts[of_rank_0(checkpoints)[-1]]
        return parts.get(rank, parts[0])

    monkeypatch.setattr(Checkpoints, "written", of_rank_0)
    monkeypatch.setattr(Checkpoints, "newest", any_private)
    assert found(every=1, private=True).law in ("same_numbers", "create_once", "results_stay")


def test_the_frontier_of_the_newest_checkpoint_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt, "frontier", lambda attempt: attempt.saves[-1])
    with pytest.raises(LawBroken, match=r"results_stay: .* which a replacement would look for"):
        explore(SEEDS, only("crash"))


def test_a_frontier_that_does_not_wait_for_the_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(attempt: Attempt) -> Requests:
        attempt._advance(attempt.position)
        yield from save(attempt)

    save = Attempt._save
    monkeypatch.setattr(Attempt, "_save", at_once)
    assert found(every=1, writing=60).law == "results_stay"


def test_a_successor_that_takes_its_own_start_for_a_checkpoint_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_its_start(attempt: Attempt) -> int:
        return max(attempt.start, right(attempt))

    right = Attempt.frontier
    monkeypatch.setattr(Attempt, "frontier", from_its_start)
    with pytest.raises(LawBroken, match="results_stay"):
        explore(SEEDS, only("hand_over"))


# --- what is left -------------------------------------------------------------------------------------------


def test_results_of_killed_owners_that_nobody_adopts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planner, "adopt", lambda planner, keys: None)
    broken = found(every=1)
    assert broken.law == "no_key_left"
    assert "starts again" in broken.sentence or "hands over" in broken.sentence


class LeavesWhatItCreatedLate(Collective):
    def _settle(self, call: Call, sources: Sequence[str]) -> None:
        self._late = False
        super()._settle(call, sources)


def test_contributions_that_come_after_the_result_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", LeavesWhatItCreatedLate)
    assert found(every=1).law == "no_key_left"


# --- replays and lost results -------------------------------------------------------------------------------


class SendsWhatIsThere(Collective):
    def run(self, fill: Fill | None) -> Requests:
        mine = {call.key("in", call.rank): call for call in self._calls if call.owner != call.rank}
        if self._folds and self._progress.restored:
            yield PutMany({key: self._encode(call, key) for key, call in mine.items()})
        yield from super().run(fill)


def test_a_replay_that_sends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", SendsWhatIsThere)
    assert found(private=True, every=3).law == "no_needless_put"


class SendsOnce(Collective):
    def _create_again(self) -> Requests:
        yield from ()


class BringsBackContributionsAlone(Collective):
    def _settle(self, call: Call, sources: Sequence[str]) -> None:
        super()._settle(call, sources)
        self._again.pop(call.chunk, None)


@pytest.mark.parametrize("engine", [SendsOnce, BringsBackContributionsAlone])
def test_what_is_not_created_again_is_found(engine: type[Collective], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", engine)
    assert found(1, evicts=True, chunk_bytes=64, window_bytes=64).law == "no_hang"


def test_a_lost_result_that_nobody_is_told_of_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generation, "past", lambda generation, rank, position: False)
    assert found(evicts=True).law == "no_hang"


def test_a_generation_that_finds_the_values_of_the_last_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_generation(planner: Planner, **settings: Any) -> None:
        right(planner, **{**settings, "generation": 0})

    right = Planner.__init__
    monkeypatch.setattr(Planner, "__init__", first_generation)
    assert found(evicts=True).law in ("own_keys", "no_hang", "typed_errors")


def test_a_generation_from_the_beginning_of_some_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Checkpoints.bases

    def of_rank_0(checkpoints: Checkpoints) -> dict[int, Snapshot]:
        bases = right(checkpoints)
        return {rank: base._replace(private=initial_private()) for rank, base in bases.items()}

    monkeypatch.setattr(Checkpoints, "bases", of_rank_0)
    assert found(evicts=True, private=True, every=1).law == "same_numbers"
