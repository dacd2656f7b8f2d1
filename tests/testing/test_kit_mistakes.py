"""What went wrong in earlier systems for distributed training on functions is found by the suites, wherever a plugin
could do it; and there are enough broken things of every kind. That each is caught by its law is tested in its room."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kit_suites import SUITES

from lambdaml_core.testing.base import laws_of

ROOMS = Path(__file__).parents[1]

FOUND: Mapping[str, tuple[str, ...]] = {
    "every worker starts from a random model of its own": ("StartsFromModelsOfTheirOwn", "StartsAnywhere"),
    "what is called an SVM follows a cross-entropy": ("FollowsTheCrossEntropy",),
    "a hinge loss is given the labels 0 and 1": ("HingeOfZeroAndOne",),
    "the bias is never trained": ("NeverTrainsTheBias",),
    "the bias, or another part of the model, is never exchanged": ("TrainsItsBiasAlone",),
    "means are averaged without the counts behind them": ("AveragesAverages", "AveragesOverBatches"),
    "what a worker has of its own, such as duals, is shared by all": ("SharesRandomDuals", "SharesWhatIsItsOwn"),
    "contributions are counted and not named": ("NamesNoRank", "CountsWorkers"),
    "the first page of a listing is taken for all of it": ("ListsOnePage", "FirstPageOfTheLog"),
    "keys name no job and no round": ("NamesKeysByHand",),
    "all that a bucket or cache holds is flushed": ("FlushesAtTheStart", "FlushesAtTheEnd", "CancelsEverybody"),
    "results are deleted before a slow worker has read them": ("ReadsWhatMayBeGone",),
    "a wait has no end": ("ZeroMeansForEver", "NobodyPutsTheResult", "WaitsForOneMore", "RunsForEver"),
    "an error becomes None, or is not said": ("SwallowsErrors", "SaysNothing", "AlwaysWell", "SkipsBadLines"),
    "workers wait for each other": ("ExchangesEachRow", "StopsByItsOwnLoss", "EverybodyWaitsFirst"),
    "the last to write wins, and others' work is lost": ("LetsTheLastWriterWin", "LastWriterWins"),
    "the trained model is thrown away": ("TrainsACopy", "ThrowsTheModelAway"),
    "part of what is learnt never reaches a checkpoint": ("RemembersItsVelocity",),
    "a worker hands over when its end has come": ("PromisesTime",),
    "data that others have written is unpickled": ("Unpickles",),
    "each sparse row is an object of its own": ("ATensorForEachRow",),
    "one word means the sum here and the mean there": ("SumsWhereOthersAverage", "Means"),
    "region, account, role or network are written in the code": ("OneRegionForAll", "OneNetworkForAll"),
    "credentials are written down": ("PlansWithTheEnvironment", "FillsInPasswords", "GivesItsCredentials"),
}
"""Mistakes, and the broken things that make them."""

# Not among them, since no plugin that there is a suite for could make them: a poll that lists everything, without
# back-off (core asks for names that it knows); tensors as lists of JSON (core writes messages); an empty cluster that
# becomes zero, and a penalty or stopping rule that is not ADMM's (of algorithms that are not here yet).

LEAST = {"storage": 6, "comm": 4, "optim": 6, "models": 6, "data": 4, "provider": 4, "testing": 10}
"""How many broken things each room has at the least."""


def broken_things() -> Iterator[tuple[str, type[Any]]]:
    """The rooms' names, and the classes that break a law."""
    for path in sorted(ROOMS.glob("*/broken_*.py")):
        module = importlib.import_module(path.stem)
        for each in vars(module).values():
            if isinstance(each, type) and each.__module__ == module.__name__ and "law" in vars(each):
                yield path.parent.name, each


@pytest.fixture(scope="module")
def broken() -> list[tuple[str, type[Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        for room in LEAST:
            patch.syspath_prepend(ROOMS / room)
        return list(broken_things())


def test_there_are_broken_things_of_every_kind(broken: list[tuple[str, type[Any]]]) -> None:
    rooms = Counter(room for room, _ in broken)
    assert rooms.total() >= 25
    assert rooms.keys() == LEAST.keys()
    assert all(rooms[room] >= least for room, least in LEAST.items()), rooms


def test_every_broken_thing_breaks_a_law_that_there_is(broken: list[tuple[str, type[Any]]]) -> None:
    laws = {law for suite in SUITES for law in laws_of(suite)}
    assert {each.law for _, each in broken} <= laws


@pytest.mark.parametrize("mistake", FOUND)
def test_a_mistake_of_earlier_systems_is_found(mistake: str, broken: list[tuple[str, type[Any]]]) -> None:
    made = {each.__name__ for _, each in broken if vars(each).get("mistake")}
    assert set(FOUND[mistake]) <= made


def test_every_mistake_that_is_made_is_one_of_these(broken: list[tuple[str, type[Any]]]) -> None:
    made = {each.__name__ for _, each in broken if vars(each).get("mistake")}
    assert made == {name for names in FOUND.values() for name in names}
