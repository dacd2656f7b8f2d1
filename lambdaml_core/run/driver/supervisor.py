"""Which workers are started again, and when a run is given up: decisions alone, without a clock and without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lambdaml_core.errors import CorruptMessage, ResultLost, StorageUnavailable
from lambdaml_core.run.records.attempts import AttemptError, Beat
from lambdaml_core.run.spec import Recovery
from lambdaml_core.storage.retry import DEADLINE_S as RETRIED_S

_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 2.0  # before the second start in a row, doubling; the first is at once
_LEAST_SUCCESSION_S = 10.0  # that a successor may take to begin
_LEAST_START_S = 60.0  # that a process may take to begin, however short the deadline: replacing it would add load
_UNBORN = 3  # processes in a row that end before they begin: their code cannot be run
_FROM_OUTSIDE = ("killed by", "process is gone")  # in what is said of one that somebody else has ended
_BEATS = 3  # that may be missing before silence counts, however short the deadline is
_ENDED = ("failed", "succeeded")  # words for a process
_MESSAGES_LOST = {ResultLost.code, CorruptMessage.code}


class Seen(NamedTuple):
    """What is known of a rank at a moment. What is out of date, or of an older attempt, does no harm.

    Attributes:
        claimed: the newest attempt that has begun; -1 = none.
        word: an attempt, and what the provider says of its process; ``unstarted: ...`` where there is none.
        beat: the last sign of life.
        left: the newest attempt that has handed over; -1 = none.
        error: an attempt, and the error that it ended by.
        ended: the rank has done all of its work.
    """

    claimed: int = -1
    word: tuple[int, str] = (-1, "unknown")
    beat: Beat | None = None
    left: int = -1
    error: tuple[int, AttemptError] | None = None
    ended: bool = False


class Launch(NamedTuple):
    """Start this attempt of a rank; ``reason`` is why the last one does not count any more, None for the first."""

    rank: int
    attempt: int
    reason: str | None


class Reopen(NamedTuple):
    """Open a new generation, and tell the supervisor by :meth:`Supervisor.reopened`."""

    reason: str


class GiveUp(NamedTuple):
    """The run has failed: ``worker {rank}{words}``, or ``words`` alone where it is no single rank's fault."""

    rank: int | None
    words: str
    hint: str | None


class Done(NamedTuple):
    """All ranks have ended."""


Decision: TypeAlias = Launch | Reopen | GiveUp | Done


@dataclass
class _Row:
    """Losses in a row, when the first of them was, and how far it had got at the last."""

    lost: int = 0
    since: float = 0.0
    at: tuple[int, int] = (-1, -1)

    def add(self, progress: tuple[int, int], now: float) -> int:
        """One more. Returns how many there are without any progress between them."""
        if self.lost == 0 or progress > self.at:
            self.lost, self.since = 0, now
        self.lost += 1
        self.at = max(self.at, progress)
        return self.lost


class _Rank:
    """One rank in a generation."""

    def __init__(self, newest: int, now: float) -> None:
        self.newest = newest  # attempt that has been launched, by us or by others
        self.changed = now  # when something was last heard of it
        self.sign = (-1, 0)  # the last (attempt, beat); a claim is the beat 0
        self.progress = (-1, -1)  # the highest (round, sequence)
        self.left: float | None = None  # when the newest was seen to have handed over
        self.due: float | None = None if newest >= 0 else now  # when the next attempt is to be launched
        self.reason: str | None = None
        self.row = _Row()
        self.unborn = 0  # processes in a row that have ended without having claimed their attempt
        self.ended = False

    def take(self, seen: Seen, now: float) -> None:
        """Remember what is new."""
        self.ended = self.ended or seen.ended
        sign = (seen.claimed, 0)
        if seen.beat is not None:
            sign = max(sign, (seen.beat["attempt"], seen.beat["beat"]))
            self.progress = max(self.progress, (seen.beat["round"], seen.beat["sequence"]))
        if sign > self.sign:
            self.sign, self.changed = sign, now
        if sign[0] > self.newest:  # somebody else has launched it
            self.newest, self.due, self.left = sign[0], None, None
        if seen.left == self.newest and self.left is None:
            self.left = now

    def has_begun(self) -> bool:
        """Whether the newest attempt has."""
        return self.sign[0] == self.newest

    def launch(self, now: float) -> int:
        """The next attempt, which is launched now."""
        self.newest, self.changed, self.due, self.left = self.newest + 1, now, None, None
        return self.newest


def _ended_unborn(rank: _Rank, seen: Seen) -> bool:
    """Whether the newest process has ended by itself, and was never heard of."""
    heard = rank.has_begun() or (seen.error is not None and seen.error[0] == rank.newest)
    attempt, word = seen.word
    ended = word.partition(": ")[0] in _ENDED and not any(words in word for words in _FROM_OUTSIDE)
    return ended and not heard and attempt == rank.newest


class Supervisor:
    """Told what is seen, in whatever order, it says what to do.

    It launches no attempt twice and no rank that has ended; claims settle who does an attempt that others launch too.

    Args:
        recovery: as in a specification.
        checkpoints: whether lost workers are replaced at all.
        newest: by rank, attempts that have been launched before, by others.
        now: seconds of any clock that does not go back.
    """

    def __init__(
        self, size: int, recovery: Recovery, *, checkpoints: bool, now: float, newest: Mapping[int, int] | None = None
    ) -> None:
        self._size, self._recovery, self._checkpoints = size, recovery, checkpoints
        self._silence_s = max(recovery.deadline_s, _BEATS * (recovery.heartbeat_s or 0.0))
        self._succession_s = max(_LEAST_SUCCESSION_S, recovery.deadline_s / 4)
        self._generations = _Row()
        self._ranks = [_Rank((newest or {}).get(rank, -1), now) for rank in range(size)]

    def reopened(self, now: float) -> None:
        """All ranks start again, in a new generation."""
        self._ranks = [_Rank(-1, now) for _ in range(self._size)]

    def observe(self, now: float, seen: Mapping[int, Seen]) -> Sequence[Decision]:
        """What is to be done now. A decision that is no launch is the only one."""
        for rank, what in seen.items():
            self._ranks[rank].take(what, now)
        if all(rank.ended for rank in self._ranks):
            return [Done()]
        going_on = {n: seen[n] for n in seen if not self._ranks[n].ended}
        verdict = self._deterministic(going_on) or self._messages_lost(going_on, now) or self._lost(going_on, now)
        return [verdict] if verdict is not None else list(self._launches(now))

    def _errors(self, seen: Mapping[int, Seen]) -> list[tuple[int, AttemptError]]:
        """The errors of newest attempts, in the order of their time."""
        found = [(n, s.error[1]) for n, s in seen.items() if s.error and s.error[0] == self._ranks[n].newest]
        return sorted(found, key=lambda e: (e[1]["time_s"], e[0]))

    def _deterministic(self, seen: Mapping[int, Seen]) -> GiveUp | None:
        """The first error that would come again."""
        for n, error in self._errors(seen):
            if not error["again"]:
                return GiveUp(n, f": {error['message']}", error["hint"])
        return None

    def _messages_lost(self, seen: Mapping[int, Seen], now: float) -> Reopen | GiveUp | None:
        """What cannot be mended by replacing one worker."""
        for n, error in self._errors(seen):
            if error["code"] not in _MESSAGES_LOST:
                continue
            if not self._checkpoints:
                return GiveUp(n, f": {error['message']}", error["hint"])
            lost = self._generations.add(max(rank.progress for rank in self._ranks), now)
            if lost > self._recovery.restarts:
                words = f"messages were lost {lost} times in a row without getting any further: {error['message']}"
                return GiveUp(None, words, error["hint"])
            return Reopen(error["message"])
        return None

    def _lost(self, seen: Mapping[int, Seen], now: float) -> GiveUp | None:
        """Note which ranks need another attempt, or that it is enough."""
        for n, what in seen.items():
            rank = self._ranks[n]
            reason = self._reason(rank, what, now) if rank.due is None else None
            if reason is None:
                continue
            lost = rank.row.add(rank.progress, now)
            rank.unborn = rank.unborn + 1 if _ended_unborn(rank, what) else 0
            if not self._checkpoints and rank.left is None:
                return GiveUp(n, f" has ended: {reason}", "with checkpoint.enabled = true it would have been replaced")
            away = self._away(rank, what)
            if away is not None and now - rank.row.since + RETRIED_S >= self._recovery.deadline_s:
                return GiveUp(n, f": {away['message']}", away["hint"])
            if lost > self._recovery.restarts:
                times = "" if lost == 1 else f" {lost} times in a row without getting any further"
                return GiveUp(n, f" has ended{times}: {reason}", None)
            if rank.unborn == _UNBORN:
                return GiveUp(n, f" has ended {_UNBORN} times before it could begin: {reason}", None)
            pause = min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0 ** min(lost - 2, 10)) if lost > 1 else 0.0
            rank.due, rank.reason = now + pause, reason
        return None

    def _away(self, rank: _Rank, seen: Seen) -> AttemptError | None:
        """The error that ended the newest attempt, if that says that a storage could not be reached: another attempt
        may do better, but not for as long as a worker may be silent."""
        if seen.error is None or seen.error[0] != rank.newest or seen.error[1]["code"] != StorageUnavailable.code:
            return None
        return seen.error[1]

    def _reason(self, rank: _Rank, seen: Seen, now: float) -> str | None:
        """Why the newest attempt does not count any more; None = it may go on."""
        if seen.error is not None and seen.error[0] == rank.newest:
            return seen.error[1]["message"]
        if rank.left is not None:
            late = now - rank.left >= self._succession_s
            return f"its successor has not begun within {self._succession_s:g} s" if late else None
        state, _, how = seen.word[1].partition(": ")
        if seen.word[0] == rank.newest and state in (*_ENDED, "unstarted"):
            return how or "without a word"
        silence_s = self._silence_s if rank.has_begun() else max(self._silence_s, _LEAST_START_S)
        return f"it has not been heard of for {silence_s:g} s" if now - rank.changed >= silence_s else None

    def _launches(self, now: float) -> Iterator[Launch]:
        for n, rank in enumerate(self._ranks):
            if rank.due is not None and now >= rank.due and not rank.ended:
                yield Launch(n, rank.launch(now), rank.reason)
