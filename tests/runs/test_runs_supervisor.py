"""The supervisor's decisions, whatever it is told and in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_core.run.driver.supervisor import Decision, Done, GiveUp, Launch, Reopen, Seen, Supervisor
from lambdaml_core.run.records.attempts import AttemptError, Beat, Totals
from lambdaml_core.run.spec import Recovery

SIZE = 2
RECOVERY = Recovery(deadline_s=60.0, heartbeat_s=1.0, restarts=3)
NOTHING: dict[int, Seen] = {}
TOTALS: Totals = {
    "attempts": 1,
    "successions": 0,
    "began_s": None,
    "seconds": {},
    "channel": {},
    "store": {},
    "worker": {},
    "checkpoints": {},
    "fingerprints": [],
}


def beat_of(attempt: int, number: int, round: int = 0) -> Beat:
    return Beat(
        attempt=attempt,
        beat=number,
        sequence=round,
        round=round,
        waiting=False,
        remaining_s=None,
        time_s=0.0,
        totals=TOTALS,
    )


def error_of(code: str, *, again: bool, time_s: float = 0.0) -> AttemptError:
    return AttemptError(code=code, message=f"the {code}", hint=None, again=again, time_s=time_s)


def make(**changes: Any) -> Supervisor:
    keys: dict[str, Any] = {"checkpoints": True, "now": 0.0}
    return Supervisor(SIZE, **({"recovery": RECOVERY} | keys | changes))


ATTEMPTS = st.integers(-1, 4)
ERRORS = st.builds(
    error_of, st.sampled_from(["storage", "storage_unavailable", "result_lost", "run"]), again=st.booleans()
)
SEEN = st.builds(
    Seen,
    claimed=ATTEMPTS,
    word=st.tuples(
        ATTEMPTS, st.sampled_from(["running", "unknown", "failed", "failed: by SIGKILL", "succeeded", "unstarted"])
    ),
    beat=st.none() | st.builds(beat_of, st.integers(0, 4), st.integers(0, 9), st.integers(0, 5)),
    left=ATTEMPTS,
    error=st.none() | st.tuples(ATTEMPTS, ERRORS),
    ended=st.sampled_from([False] * 9 + [True]),
)
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 1.0, 20.0, 70.0]), st.dictionaries(st.integers(0, SIZE - 1), SEEN)),
    max_size=25,
)


class Witness:
    """Asks a supervisor, and looks at each of its decisions."""

    def __init__(self, supervisor: Supervisor, *, checkpoints: bool = True) -> None:
        self.supervisor, self.checkpoints = supervisor, checkpoints
        self.newest = dict.fromkeys(range(SIZE), -1)
        self.begun = dict.fromkeys(range(SIZE), -1)
        self.ended: set[int] = set()
        self.progress = dict.fromkeys(range(SIZE), (-1, -1))
        self.replaced: dict[int, list[tuple[int, int]]] = {rank: [] for rank in range(SIZE)}
        self.reopened: list[tuple[int, int]] = []
        self.over = False

    def observe(self, now: float, seen: Mapping[int, Seen]) -> Sequence[Decision]:
        for rank, what in seen.items():
            heard = [what.claimed] if what.beat is None else [what.claimed, what.beat["attempt"]]
            self.newest[rank] = max(self.newest[rank], *heard) if rank not in self.ended else self.newest[rank]
            beat = what.beat["attempt"] if what.beat is not None else -1
            self.begun[rank] = max(self.begun[rank], what.claimed, beat)
            if what.ended:
                self.ended.add(rank)
            if what.beat is not None:
                self.progress[rank] = max(self.progress[rank], (what.beat["round"], what.beat["sequence"]))
        decisions = self.supervisor.observe(now, seen)
        for decision in decisions:
            self._check(decision, seen, len(decisions))
        return decisions

    def _check(self, decision: Decision, seen: Mapping[int, Seen], count: int) -> None:
        match decision:
            case Launch(rank, attempt, reason):
                assert rank not in self.ended
                assert attempt == self.newest[rank] + 1
                assert (reason is None) == (attempt == 0)
                self.newest[rank] = attempt
                if attempt > 0:
                    self.replaced[rank].append(self.progress[rank])
            case Done():
                assert self.ended == set(range(SIZE))
                assert count == 1
                self.over = True
            case Reopen():
                assert count == 1
                assert self.checkpoints
                self.reopened.append(max(self.progress.values()))
                self.newest = dict.fromkeys(range(SIZE), -1)
                self.begun = dict.fromkeys(range(SIZE), -1)
                self.ended.clear()
                self.progress = dict.fromkeys(range(SIZE), (-1, -1))
                self.replaced = {rank: [] for rank in range(SIZE)}
            case GiveUp():
                assert count == 1
                self._check_reason(decision, seen)
                self.over = True

    def _check_reason(self, decision: GiveUp, seen: Mapping[int, Seen]) -> None:
        rank, words, _ = decision
        if rank is None:
            assert _in_a_row(self.reopened) >= RECOVERY.restarts
            return
        assert rank not in self.ended
        error = seen[rank].error
        if words.startswith(": "):
            assert error is not None
            assert error[0] == self.newest[rank]
            assert not error[1]["again"] or not self.checkpoints
        elif "before it could begin" in words:
            assert self.begun[rank] <= self.newest[rank] - 3
        elif self.checkpoints:
            assert _in_a_row(self.replaced[rank]) >= RECOVERY.restarts
            assert f"{RECOVERY.restarts + 1} times in a row" in words


def _in_a_row(progress: Sequence[tuple[int, int]]) -> int:
    """How many of the last come without any getting further than those before."""
    best, count = (-2, -2), 0
    for at in progress:
        count = 1 if at > best else count + 1
        best = max(best, at)
    return count


@settings(max_examples=300)
@given(STEPS, st.booleans())
def test_whatever_is_seen_every_decision_is_allowed(steps: Any, checkpoints: bool) -> None:
    witness = Witness(make(checkpoints=checkpoints), checkpoints=checkpoints)
    now = 0.0
    for pause, seen in steps:
        now += pause
        decisions = witness.observe(now, seen)
        if witness.over:
            return
        if any(isinstance(d, Reopen) for d in decisions):
            witness.supervisor.reopened(now)


@settings(max_examples=300)
@given(STEPS)
def test_it_never_waits_for_ever(steps: Any) -> None:
    """Whatever was seen: once nothing happens any more, it ends, and soon."""
    supervisor = make()
    now = 0.0
    last: dict[int, Seen] = {rank: Seen() for rank in range(SIZE)}
    for pause, seen in [*steps, *[(1.0, NOTHING)] * 600]:
        now += pause
        last |= seen
        decisions = supervisor.observe(now, last)
        if any(isinstance(d, Done | GiveUp) for d in decisions):
            return
        if any(isinstance(d, Reopen) for d in decisions):
            supervisor.reopened(now)
            last = {rank: Seen() for rank in range(SIZE)}
    raise AssertionError("it waits for what cannot come")


@given(st.data())
def test_workers_that_get_further_are_replaced_as_often_as_it_takes(data: st.DataObject) -> None:
    """Each process does a round or two and dies, in one of many ways; the run comes to its end all the same."""
    witness = Witness(make())
    now, rounds = 0.0, 20
    done = dict.fromkeys(range(SIZE), 0)
    seen = {rank: Seen() for rank in range(SIZE)}
    for _ in range(40 * rounds):
        now += data.draw(st.sampled_from([0.5, 1.0]))
        for decision in witness.observe(now, seen):
            if isinstance(decision, Done):
                return
            assert isinstance(decision, Launch), decision
            rank, attempt, _ = decision
            done[rank] += 1
            begun = Seen(claimed=attempt, beat=beat_of(attempt, 1, done[rank]))
            if done[rank] >= rounds:
                seen[rank] = begun._replace(ended=True)
            else:
                seen[rank] = data.draw(
                    st.sampled_from(
                        [
                            begun._replace(word=(attempt, "failed: killed by SIGKILL")),
                            begun._replace(word=(attempt, "succeeded")),
                            begun._replace(error=(attempt, error_of("deadline_expired", again=True))),
                            begun._replace(left=attempt),
                            begun,
                        ]
                    )
                )
        if data.draw(st.booleans()):
            now += 61.0
    raise AssertionError("the run has not ended")


def losses(supervisor: Supervisor, times: int, began: float = 0.0) -> list[tuple[float, Decision]]:
    """What it decides, and when, where rank 0 dies whenever it is launched."""
    decided: list[tuple[float, Decision]] = []
    attempt, now = 0, began
    while len(decided) < times:
        word = (attempt, "failed: killed by SIGKILL")
        for decision in supervisor.observe(now, {0: Seen(claimed=attempt, word=word), 1: Seen(claimed=0)}):
            decided.append((round(now - began, 2), decision))
            attempt += 1
        now += 0.01
    return decided


def test_pauses_grow_and_then_it_gives_up() -> None:
    supervisor = make(recovery=Recovery(restarts=6, heartbeat_s=1.0), newest={0: 0, 1: 0})
    *launches, (_, last) = losses(supervisor, 7)
    at = [moment for moment, _ in launches]
    pauses = [round(b - a, 1) for a, b in itertools.pairwise(at)]
    assert at[0] == 0.0
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.0], abs=0.06)
    assert [d for _, d in launches] == [Launch(0, n, "killed by SIGKILL") for n in range(1, 7)]
    assert last == GiveUp(0, " has ended 7 times in a row without getting any further: killed by SIGKILL", None)


def crashes(supervisor: Supervisor, word: str, begins: set[int]) -> Decision:
    """What it decides at last, where rank 0 ends so, and only these attempts of it begin."""
    now = 0.0
    for attempt in range(20):
        seen = Seen(claimed=max((n for n in begins if n <= attempt), default=-1), word=(attempt, word))
        while not (decided := supervisor.observe(now, {0: seen, 1: Seen(claimed=0)})):
            now += 0.5
        if not isinstance(decided[0], Launch):
            return decided[0]
    raise AssertionError("it starts processes for ever")


@pytest.mark.parametrize("word", ["failed: its code cannot be imported", "succeeded: its code cannot be imported"])
def test_processes_that_never_begin_are_not_started_for_long(word: str) -> None:
    recovery = Recovery(restarts=10, heartbeat_s=1.0)
    last = GiveUp(0, " has ended 3 times before it could begin: its code cannot be imported", None)
    assert crashes(make(recovery=recovery, newest={0: 0, 1: 0}), word, set()) == last
    assert crashes(make(recovery=recovery, newest={0: 0, 1: 0}), word, {2, 5}) == last
    never_three = crashes(make(recovery=recovery, newest={0: 0, 1: 0}), word, {2, 5, 8, 11})
    assert never_three.words.startswith(" has ended 11 times in a row")  # type: ignore[union-attr]


def test_what_could_not_be_started_is_tried_for_longer() -> None:
    last = crashes(make(newest={0: 0, 1: 0}), "unstarted: it could not be started: no memory", set())
    words = " has ended 4 times in a row without getting any further: it could not be started: no memory"
    assert last == GiveUp(0, words, None)


def test_all_are_launched_first() -> None:
    supervisor = make()
    assert supervisor.observe(0.0, NOTHING) == [Launch(0, 0, None), Launch(1, 0, None)]
    assert supervisor.observe(0.0, NOTHING) == []


def test_those_that_others_have_launched_are_not() -> None:
    assert make(newest={0: 3}).observe(0.0, NOTHING) == [Launch(1, 0, None)]


def test_a_silent_worker_is_replaced_once_and_may_wake() -> None:
    supervisor = make(newest={0: 0, 1: 0})
    silent = Seen(claimed=0, beat=beat_of(0, 5), word=(0, "running"))
    for now in (0.0, 59.0, 60.0):
        decisions = supervisor.observe(now, {0: silent, 1: Seen(claimed=0, beat=beat_of(0, round(now)))})
    assert decisions == [Launch(0, 1, "it has not been heard of for 60 s")]
    awake = silent._replace(beat=beat_of(0, 6), word=(1, "running"))
    assert supervisor.observe(61.0, {0: awake}) == []


def test_what_is_said_of_an_older_attempt_does_not_count() -> None:
    supervisor = make(newest={0: 0, 1: 0})
    dead = Seen(claimed=0, word=(0, "failed: killed by SIGKILL"), error=(0, error_of("run", again=True)), left=0)
    assert supervisor.observe(0.0, {0: dead}) == [Launch(0, 1, "the run")]
    assert supervisor.observe(30.0, {0: dead}) == []


def test_silence_is_no_shorter_than_some_beats() -> None:
    supervisor = make(recovery=Recovery(deadline_s=0.1, heartbeat_s=5.0), newest={0: 0, 1: 0})
    assert supervisor.observe(14.0, {0: Seen(claimed=0)}) == []


def test_a_process_may_take_its_time_to_begin() -> None:
    """With a short deadline, slow starts would be replaced by slow starts until the run is given up."""
    supervisor = make(recovery=Recovery(deadline_s=2.0, heartbeat_s=0.2))
    supervisor.observe(0.0, NOTHING)
    assert supervisor.observe(59.0, {0: Seen(word=(0, "running")), 1: Seen(claimed=0)}) == []
    replaced = supervisor.observe(61.0, {0: Seen(word=(0, "running")), 1: Seen(claimed=0)})
    assert replaced == [
        Launch(0, 1, "it has not been heard of for 60 s"),
        Launch(1, 1, "it has not been heard of for 2 s"),
    ]


def test_a_successor_that_does_not_begin() -> None:
    supervisor = make(newest={0: 4, 1: 0})
    left = Seen(claimed=4, left=4, word=(4, "succeeded"))
    assert supervisor.observe(0.0, {0: left}) == []
    assert supervisor.observe(14.9, {0: left}) == []
    assert supervisor.observe(15.0, {0: left}) == [Launch(0, 5, "its successor has not begun within 15 s")]


def test_a_successor_that_begins_is_taken_over() -> None:
    supervisor = make(newest={0: 4, 1: 0})
    supervisor.observe(0.0, {0: Seen(claimed=4, left=4)})
    assert supervisor.observe(14.0, {0: Seen(claimed=5, word=(5, "running"))}) == []
    gone = Seen(claimed=5, word=(5, "failed: its process is gone"))
    assert supervisor.observe(15.0, {0: gone}) == [Launch(0, 6, "its process is gone")]


def test_without_checkpoints_nobody_is_replaced_but_by_a_successor() -> None:
    supervisor = make(checkpoints=False, newest={0: 0, 1: 0})
    assert supervisor.observe(0.0, {0: Seen(claimed=0, left=0)}) == []
    assert supervisor.observe(20.0, {0: Seen(claimed=0, left=0)}) == [
        Launch(0, 1, "its successor has not begun within 15 s")
    ]
    (decision,) = supervisor.observe(21.0, {1: Seen(claimed=0, word=(0, "failed: killed by SIGKILL"))})
    assert isinstance(decision, GiveUp)
    assert decision.words == " has ended: killed by SIGKILL"
    assert "checkpoint.enabled" in str(decision.hint)


def test_the_first_of_several_errors_counts() -> None:
    supervisor = make(newest={0: 0, 1: 0})
    late = Seen(claimed=0, error=(0, error_of("run", again=False, time_s=2.0)))
    early = Seen(claimed=0, error=(0, error_of("model", again=False, time_s=1.0)))
    assert supervisor.observe(0.0, {0: late, 1: early}) == [GiveUp(1, ": the model", None)]


@pytest.mark.parametrize("code", ["result_lost", "corrupt_message"])
def test_lost_messages_open_generations_but_not_for_ever(code: str) -> None:
    supervisor = make(newest={0: 0, 1: 0})
    lost = {0: Seen(claimed=0, beat=beat_of(0, 1, 7), error=(0, error_of(code, again=True)))}
    for _ in range(RECOVERY.restarts):
        assert supervisor.observe(0.0, lost) == [Reopen(f"the {code}")]
        supervisor.reopened(0.0)
        assert supervisor.observe(0.0, NOTHING) == [Launch(0, 0, None), Launch(1, 0, None)]
    further = {0: lost[0]._replace(beat=beat_of(0, 1, 8))}
    assert supervisor.observe(0.0, further) == [Reopen(f"the {code}")]
    for _ in range(RECOVERY.restarts - 1):
        supervisor.reopened(0.0)
        supervisor.observe(0.0, NOTHING)
        assert supervisor.observe(0.0, further) == [Reopen(f"the {code}")]
    supervisor.reopened(0.0)
    supervisor.observe(0.0, NOTHING)
    (decision,) = supervisor.observe(0.0, further)
    assert isinstance(decision, GiveUp)
    assert decision.words.startswith("messages were lost 4 times in a row")


def test_a_storage_that_stays_away_ends_the_run_after_the_deadline() -> None:
    """Each attempt has tried for half a minute. The next may do better, but nobody waits for it ten times."""
    supervisor = make(recovery=Recovery(restarts=10, heartbeat_s=1.0), newest={0: 0, 1: 0})
    away = Seen(claimed=0, error=(0, error_of("storage_unavailable", again=True)))
    assert supervisor.observe(0.0, {0: away}) == [Launch(0, 1, "the storage_unavailable")]
    again = Seen(claimed=1, error=(1, error_of("storage_unavailable", again=True)))
    assert supervisor.observe(30.0, {0: again}) == [GiveUp(0, ": the storage_unavailable", None)]


def test_one_that_comes_back_now_and_then_does_not() -> None:
    supervisor = make(recovery=Recovery(restarts=10, heartbeat_s=1.0), newest={0: 0, 1: 0})
    for attempt in range(5):
        seen = Seen(
            claimed=attempt,
            beat=beat_of(attempt, 1, round=attempt),
            error=(attempt, error_of("storage_unavailable", again=True)),
        )
        assert supervisor.observe(attempt * 40.0, {0: seen, 1: Seen(claimed=0, beat=beat_of(0, attempt))}) == [
            Launch(0, attempt + 1, "the storage_unavailable")
        ]
