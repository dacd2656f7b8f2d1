"""What rank 0 tells of a run's rounds: each once and in order, whatever fails and however often rank 0 is replaced."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.run.records.history import rounds_of
from lambdaml_core.run.worker.reporter import Reporter
from lambdaml_core.run.worker.totals import Used
from lambdaml_core.run.worker.training import Progress
from lambdaml_core.storage import open_storage

ROUNDS, LOOK = 30, 5


class Flaky:
    """A storage whose puts fail, or are done and fail nevertheless, as told."""

    def __init__(self, mischief: Sequence[str] = ()) -> None:
        self.inner: Any = open_storage("memory://reporter")
        self.inner.delete(list(self.inner.list("")))
        self.mischief = list(mischief)
        self.drained = threading.Event()
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> bool:
        self.puts += 1
        what = self.mischief.pop(0) if self.mischief else "fine"
        if not self.mischief:
            self.drained.set()
        if what == "fails":
            raise StorageUnavailable("not now")
        stored: bool = self.inner.put(key, data, if_absent=if_absent)
        if what == "lost":
            raise StorageUnavailable("the answer was lost")
        return stored


def reporter_of(store: Any, *, rounds: int = ROUNDS, steps_per_round: int = 1, steps_per_epoch: int = LOOK) -> Reporter:
    asked = itertools.count(1)
    return Reporter(
        store,
        run="r",
        rounds=rounds,
        steps_per_round=steps_per_round,
        steps_per_epoch=steps_per_epoch,
        seconds=lambda: {"compute": 1.0},
        used=lambda: Used(channel=100 * (n := next(asked)), store=n, usd=n / 4),
    )


def progress_of(round: int) -> Progress:
    """The dual residual of odd rounds is no number, and every third says nothing of its step."""
    said = {"primal": 3 / round, "dual": math.nan if round % 2 else 4 / round}
    figures = {"loss": 2.0 / round} if round % LOOK == 0 else None
    return Progress(round, 1 / round, round / 8, figures, said if round % 3 else {**said, "step": 5.0})


def read(store: Any) -> list[dict[str, Any]]:
    """All events, whose numbers have no gap."""
    keys = sorted(store.list("events/"))
    assert keys == [f"events/{i:06d}.json" for i in range(len(keys))]
    return [json.loads(bytes(store.get(key))) for key in keys]


def check_told(store: Any, rounds: int) -> None:
    """Every round and every look up to this one is told once and in order."""
    events = read(store)
    parts = [e for e in events if e["event"] == "rounds"]
    told = [i for e in parts for i in range(e["first"], e["first"] + len(e["loss"]))]
    assert told == list(range(1, rounds + 1))
    assert [loss for e in parts for loss in e["loss"]] == [1 / i for i in told]
    figures = [rounds_of(parts)["figures"].get(name, []) for name in ("primal", "dual", "step")]
    assert figures[0] == [3 / i for i in told]
    assert figures[1] == [None if i % 2 else 4 / i for i in told]
    assert (figures[2] or [None] * len(told)) == [None if i % 3 else 5.0 for i in told]
    assert all(len(column) == len(e["loss"]) for e in parts for column in (*e["figures"].values(), *e["used"].values()))
    assert [e["round"] for e in events if e["event"] == "epoch"] == list(range(LOOK, rounds + 1, LOOK))


@pytest.mark.parametrize(
    "mischief", [["fails"], ["lost"], ["fine", "lost", "fails", "lost"], ["fails"] * 5, ["fine"] * 6 + ["fails"]]
)
def test_no_round_is_told_twice_or_not_at_all(mischief: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to single requests."""
    monkeypatch.setattr("lambdaml_core.run.worker.reporter.PERIOD_S", 1e-3)
    store: Any = Flaky(mischief)
    with reporter_of(store) as reporter:
        for n in range(1, ROUNDS + 1):
            reporter.round(progress_of(n))
        assert store.drained.wait(60)  # by the thread, which goes on trying
    check_told(store, ROUNDS)
    progress = json.loads(bytes(store.get("progress.json")))
    assert (progress["events"], progress["round"], progress["epochs"]) == (len(read(store)), ROUNDS, ROUNDS / LOOK)
    assert (progress["seconds"], progress["loss"]) == ({"compute": 1.0}, 2 / ROUNDS)
    assert progress["round_figures"] == {"primal": 3 / ROUNDS, "dual": 4 / ROUNDS, "step": 5.0}
    events = read(store)
    used = rounds_of(e for e in events if e["event"] == "rounds")["used"]
    assert used["channel"] == [100 * n for n in range(1, ROUNDS + 1)]
    assert used["usd"] == [n / 4 for n in range(1, ROUNDS + 1)]
    assert next(e for e in events if e["event"] == "epoch")["round_figures"] == {"primal": 3 / LOOK, "dual": None}


def test_a_loss_that_is_no_number_is_null() -> None:
    store: Any = Flaky()
    with reporter_of(store, rounds=1, steps_per_round=2, steps_per_epoch=1) as reporter:
        reporter.round(Progress(1, math.nan, 0.5, {"loss": math.inf, "r2": 0.5}, {"rho": math.inf}))
    first, second = read(store)
    assert (first["loss"], first["figures"]) == ([None], {"rho": [None]})
    assert (second["batch_loss"], second["loss"], second["accuracy"]) == (None, None, None)
    assert second["figures"] == {"loss": None, "r2": 0.5}


class Attempt:
    """A rank 0 that goes on from a round, does one round after the other, and tells of them when it gets to it."""

    def __init__(self, store: Any, start: int) -> None:
        self.reporter = reporter_of(store)
        if start or list(store.list("events/")):
            self.reporter.go_on()
        self.done = start

    def round(self) -> None:
        if self.done < ROUNDS:
            self.done += 1
            self.reporter.round(progress_of(self.done))

    def checkpoint(self) -> int:
        """As a worker does: what it has done is told before a checkpoint of it exists."""
        self.reporter.flush()
        return self.done


STEPS = st.tuples(
    st.integers(0, 2), st.sampled_from(["round", "rounds", "tell", "checkpoint", "replace", "fails", "lost"])
)


@given(steps=st.lists(STEPS, max_size=60))
def test_attempts_that_are_replaced_or_overlap(steps: list[tuple[int, str]]) -> None:
    """Up to three live at once: each goes on from the newest checkpoint, wherever the others are; requests fail."""
    store: Any = Flaky()
    newest = 0
    attempts = [Attempt(store, 0)]
    for which, what in steps:
        attempt = attempts[which % len(attempts)]
        if what in ("round", "rounds"):
            for _ in range(1 if what == "round" else LOOK - 1):
                attempt.round()
        elif what in ("fails", "lost"):
            store.mischief.append(what)
        elif what == "replace":
            attempts = [*attempts[-2:], Attempt(store, newest)]
        else:
            try:
                at = attempt.checkpoint()
            except StorageUnavailable:
                continue  # no checkpoint without it
            newest = max(newest, at) if what == "checkpoint" else newest
    store.mischief.clear()
    last = Attempt(store, newest)
    while last.done < ROUNDS:
        last.round()
    last.reporter.flush()
    for attempt in attempts:  # those that wake late
        attempt.reporter.flush()
    check_told(store, ROUNDS)
    progress = json.loads(bytes(store.get("progress.json")))
    assert progress["events"] <= len(read(store))


def test_what_was_told_long_ago_is_found() -> None:
    """The last look may be many events back; it costs no request for each of them."""
    store: Any = Flaky()
    first = Attempt(store, 0)
    for _ in range(LOOK):
        first.round()
    first.reporter.flush()
    for n in range(LOOK + 1, 2000):
        first.reporter.round(Progress(n, 1 / n, n / 8, None, {}))
        first.reporter.flush()
    store.puts = 0
    second = Attempt(store, 0)
    for n in range(1, 2001):
        second.reporter.round(Progress(n, 1 / n, n / 8, {"loss": 0.5} if n in (LOOK, 2000) else None, {}))
    second.reporter.flush()
    events = read(store)
    assert [e["round"] for e in events if e["event"] == "epoch"] == [LOOK, 2000]
    assert events[-2]["first"] == 2000
    assert store.puts == 3  # these two events, and the progress
