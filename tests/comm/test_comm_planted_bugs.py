"""The explorer finds bugs that are planted, calls them by the law they break, and tells them in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lambdaml_core.comm.base import Call, Fill, Get, Pattern
from lambdaml_core.comm.collective import Collective, Progress, Settings
from lambdaml_core.comm.contents import InPlace, Payload
from lambdaml_core.comm.keys import make_key
from lambdaml_core.comm.layout import RankFold
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.comm.schedule import Await, Compute, Create, Delete, PutMany, Request, Requests, Task, advance
from lambdaml_core.comm.sparse import Packed
from lambdaml_core.comm.wire import decode
from lambdaml_core.storage.base import Buffer
from lambdaml_core.testing.explorer import LAWS, LawBroken, explore, run_scenario
from lambdaml_core.testing.explorer.scenario import Scenario, random_scenario

SEEDS = range(2000)  # the bug is found long before


def found(make: Callable[[int], Scenario] | int, pattern: Pattern = aggregate) -> LawBroken:
    """What the explorer says of a bug; fails if it says nothing."""
    with pytest.raises(LawBroken) as broken:
        explore(SEEDS, make, pattern=pattern)
    assert broken.value.law in LAWS
    assert f"Scenario: {broken.value.sentence}" in str(broken.value)
    assert "Found with seed" in str(broken.value)
    return broken.value


def before_each(requests: Requests, also: Any) -> Requests:
    """The same requests, with others put in before them."""
    answer: Any = None
    while (request := advance(requests, answer)) is not None:
        yield from also(request)
        answer = yield request


# --- engines that are wrong ---------------------------------------------------------------------------------


class CountsInsteadOfNames(Collective):
    """A process and its replacement have names of their own; an owner folds as many as there are other ranks."""

    def __init__(self, settings: Settings, progress: Progress, **rest: Any) -> None:
        super().__init__(settings, progress, **rest)
        self._name = vars(progress).setdefault("name", settings.rank + settings.size * progress.restored)

    def _run_chunk(self, call: Call) -> Task:
        if self._operation in ("all_gather", "broadcast"):
            yield from super()._run_chunk(call)
        elif call.owner != call.rank:
            yield from self._send(call, call.key("in", self._name))
        else:
            yield from self._receive(call, [call.key("in", name) for name in range(2 * call.size)])

    def _send(self, call: Call, key: str) -> Task:
        yield Create(key, self._encode(call, key))
        yield from self._take(call, Get(call.result))

    def _receive(self, call: Call, keys: list[str]) -> Task:
        arrived: dict[str, Buffer] = {}
        while len(arrived) < self._s.size - 1:
            got = yield Await({key: 0 for key in keys if key not in arrived}, call.result)
            if call.result in got:
                yield from self._take_found(call, got[call.result])
                return
            arrived.update(got)
        messages = sorted((decode(data) for data in arrived.values()), key=lambda message: message.header.rank)
        total = self._contents.fold(call.chunk)
        for message in messages[: call.rank]:
            total.add(self._contents.pieces(call.chunk, message))
        total.add(None)
        for message in messages[call.rank : self._s.size - 1]:
            total.add(self._contents.pieces(call.chunk, message))
        total.finish()
        self._progress.learn([message.header for message in messages])
        if not (yield Create(call.result, self._encode(call, call.result))):
            yield from self._take(call, Get(call.result))
        self._settle(call, keys)


class OverwritesResults(Collective):
    def run(self, fill: Fill | None) -> Requests:
        return before_each(super().run(fill), self._make_room)

    def _make_room(self, request: Request) -> Requests:
        results = [call.result for call in self._calls]
        if isinstance(request, PutMany) and (stored := [key for key in results if key in request.items]):
            yield Delete(stored)


class DeletesContributionsEarly(Collective):
    def run(self, fill: Fill | None) -> Requests:
        return before_each(super().run(fill), self._tidy)

    def _tidy(self, request: Request) -> Requests:
        if isinstance(request, PutMany):
            for call in self._calls:
                if call.result in request.items and self._operation == "all_reduce":
                    yield Delete([call.key("in", rank) for rank in range(call.size) if rank != call.rank])


class DeletesWhatItHasRead(Collective):
    def _take_found(self, call: Call, data: Buffer, key: str | None = None) -> Task:
        yield from super()._take_found(call, data, key)
        self._garbage.append(call.result)


class NeverDeletes(Collective):
    def _settle(self, call: Call, sources: Sequence[str]) -> None:
        pass


class NeverLooksForResults(Collective):
    def run(self, fill: Fill | None) -> Requests:
        self._progress.restored = False
        return super().run(fill)

    def _fold(self, call: Call, sources: Sequence[str | None]) -> Generator[Any, Any, bool]:
        return super()._fold(call._replace(result=call.key("nowhere")), sources)


class FoldsInOrderOfArrival(Collective):
    def _fold(self, call: Call, sources: Sequence[str | None]) -> Generator[Any, Any, bool]:
        total = self._contents.fold(call.chunk)
        total.add(None)
        missing = {key: rank for rank, key in enumerate(sources) if key is not None}
        while missing:
            got = yield Await(missing, call.result)
            if call.result in got:
                return False
            for key, data in got.items():
                message = decode(data)
                total.add(self._contents.pieces(call.chunk, message))
                self._progress.learn([message.header])
                del missing[key]
        total.finish()
        return True


class TrustsWhatItViews(Collective):
    """It folds views of memory that may be used again, and does not ask afterwards whether they were intact."""

    def run(self, fill: Fill | None) -> Requests:
        requests, answer = super().run(fill), None
        while (request := advance(requests, answer)) is not None:
            answer = True if type(request).__name__ == "StillIntact" else (yield request)


class AlwaysComputes(Collective):
    def run(self, fill: Fill | None) -> Requests:
        if fill is not None:
            yield Compute(fill)
        yield from super().run(None)


@pytest.mark.parametrize(
    ("engine", "law"),
    [
        (OverwritesResults, "results_stay"),
        (DeletesContributionsEarly, "contributions_stay"),
        (DeletesWhatItHasRead, "results_stay"),
        (NeverDeletes, "no_key_left"),
        (NeverLooksForResults, "no_key_left"),
        (FoldsInOrderOfArrival, "same_numbers"),
        (TrustsWhatItViews, "typed_errors"),
        (AlwaysComputes, "no_needless_fill"),
    ],
)
def test_wrong_engines_are_found(engine: type[Collective], law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", engine)
    assert found(2).law == law


def test_contributions_that_are_counted_are_added_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", CountsInsteadOfNames)
    broken = set()
    for seed in range(100):
        try:
            run_scenario(random_scenario(seed, 2))
        except LawBroken as found:
            broken.add(found.law)
    assert broken >= {"same_numbers", "no_key_left"}


def test_keys_without_sequence_numbers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(generation: int, sequence: int, *rest: Any) -> str:
        return make_key(generation, 0, *rest)

    monkeypatch.setattr("lambdaml_core.comm.collective.make_key", forgetful)
    assert found(1).law == "create_once"


def test_float16_sums_in_float16_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = RankFold.__init__

    def narrow(self: RankFold, *args: Any) -> None:
        plain(self, *args)
        self._wide = [False] * len(self._wide)

    monkeypatch.setattr(RankFold, "__init__", narrow)
    assert found(1).law == "same_numbers"


def test_packed_messages_whose_memory_is_used_again_too_early_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = InPlace.payload

    def hasty(self: InPlace, chunk: int) -> Payload:
        payload = plain(self, chunk)
        self.stored(chunk)
        return payload

    monkeypatch.setattr(InPlace, "payload", hasty)
    assert found(2).law in ("same_numbers", "typed_errors")


def test_zeros_that_are_not_written_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Packed, pieces: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for piece, zeros in zip(pieces, plain(self, [np.empty_like(piece) for piece in pieces]), strict=True):
            np.copyto(piece, zeros, where=zeros != 0)
        return pieces

    plain = Packed.expand
    monkeypatch.setattr(Packed, "expand", careless)
    assert found(1).law == "same_numbers"


# --- what is said of them -----------------------------------------------------------------------------------


def test_the_sentence_says_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", AlwaysComputes)
    broken = found(1)
    assert re.fullmatch(
        r"\d ranks, 1 aggregator, all_reduce; a checkpoint every \d: "
        r"rank \d (crashes|leaves) (before|after) \w+( g0/[^ ]+)? and starts again\.",
        broken.sentence,
    ), broken.sentence
    assert re.match(r"no_needless_fill: rank \d computes what it brings to collective 0 again\n", str(broken))


def test_the_sentence_of_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", OverwritesResults)
    sentence = found(2).sentence
    assert re.search(r": rank \d is run twice from before [a-z ]+ g0/[^ ]+\.$", sentence), sentence


def test_a_failure_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.comm.planner.Collective", AlwaysComputes)
    assert str(found(2)) == str(found(2))
