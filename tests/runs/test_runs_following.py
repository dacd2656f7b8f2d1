"""Following a run: every round and every look is told once, in order, whatever attempts of rank 0 have written."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.run.driver.following import Follower
from lambdaml_core.run.records.history import rounds_of
from lambdaml_core.run.spec import PROGRESS, event_key, put_json
from lambdaml_core.storage import FullStorage, open_storage

LOOKS = 3  # rounds from one look at the validation rows to the next


class Teller:
    """An attempt of rank 0 that goes on after some round.

    Args:
        figures: it tells more than losses and seconds, as older versions did not.
    """

    def __init__(self, store: FullStorage, done: int, *, figures: bool = True) -> None:
        self._store, self.done, self._figures = store, done, figures

    def tell(self, rounds: int, number: int) -> int:
        """Write the events of so many rounds, from this number on. Returns the next."""
        told = range(self.done + 1, self.done + rounds + 1)
        self.done += rounds
        event: dict[str, Any] = {"event": "rounds", "first": told[0]}
        event |= {"loss": [1 / r for r in told], "seconds": [float(r) for r in told]}
        if self._figures:
            event |= {"figures": {"rho": [3 * r for r in told]}, "used": {"channel": [9 * r for r in told]}}
        events = [event]
        events += [{"event": "epoch", "round": r} for r in told if r % LOOKS == 0]
        for event in events:
            put_json(self._store, event_key(number), event, if_absent=True)
            number += 1
        put_json(self._store, PROGRESS, {"round": self.done, "events": number})
        return number


STEP = st.tuples(st.sampled_from(["tell", "replace", "look"]), st.integers(0, 1000), st.integers(1, 7))


@given(st.lists(STEP, max_size=30), st.booleans())
def test_attempts_that_overlap(steps: list[tuple[str, int, int]], figures: bool) -> None:
    store = open_storage(f"memory://{uuid.uuid4()}")
    heard: list[Any] = []
    follower = Follower(store, heard.append, run="the-run")
    tellers, number = [Teller(store, 0, figures=figures)], 0
    for what, which, rounds in steps:
        last = max(teller.done for teller in tellers)
        if what == "tell":
            number = tellers[which % len(tellers)].tell(rounds, number)
        elif what == "replace":
            tellers.append(Teller(store, which % (last + 1), figures=figures))  # at any checkpoint before
        else:
            before = len(heard)
            assert follower.look() is (len(heard) > before)
    follower.look()
    assert not follower.look()
    last = max(teller.done for teller in tellers)
    events = [e for e in heard if e["event"] == "rounds"]
    assert [e["first"] + i for e in events for i in range(len(e["loss"]))] == list(range(1, last + 1))
    assert [loss for e in events for loss in e["loss"]] == [1 / r for r in range(1, last + 1)]
    assert [s for e in events for s in e["seconds"]] == list(range(1, last + 1))
    columns = rounds_of(events)
    assert columns["figures"] == ({"rho": list(range(3, 3 * last + 1, 3))} if figures and last else {})
    assert columns["used"] == ({"channel": list(range(9, 9 * last + 1, 9))} if figures and last else {})
    assert [e["round"] for e in heard if e["event"] == "epoch"] == list(range(LOOKS, last + 1, LOOKS))
    progress = [e for e in heard if e["event"] == "progress"]
    rounds_done = [e["round"] for e in progress]
    assert rounds_done == sorted(set(rounds_done))
    assert {e["run"] for e in progress} <= {"the-run"}


def test_who_joins_late_hears_everything() -> None:
    store = open_storage(f"memory://{uuid.uuid4()}")
    teller, number = Teller(store, 0), 0
    for _ in range(600):
        number = teller.tell(1, number)
    heard: list[Any] = []
    Follower(store, heard.append, run="r").look()
    assert [e["first"] for e in heard if e["event"] == "rounds"] == list(range(1, 601))
    assert sum(e["event"] == "epoch" for e in heard) == 200
    assert [e["round"] for e in heard if e["event"] == "progress"] == [600]


def test_nothing_yet() -> None:
    heard: list[Any] = []
    assert not Follower(open_storage(f"memory://{uuid.uuid4()}"), heard.append, run="r").look()
    assert heard == []
