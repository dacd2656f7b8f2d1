"""Laws of looking at workers and of ending them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import ClassVar

import pytest

from lambdaml_core.provider.base import SupportsKill
from lambdaml_core.testing.provider_laws.given import Stage, WithWorkers
from lambdaml_core.testing.provider_laws.stage import StagedRun

_WORDS = {"running", "succeeded", "failed", "unknown"}
_STRANGERS = ["", "elsewhere/1/1", "arn:aws:lambda:x:1", "0", "käse/\n"]


class WatchLaws(WithWorkers):
    """What drivers, ``watch``, ``logs`` and ``cancel`` rely on."""

    logs_s: ClassVar[float] = 5.0
    """Seconds that a line may take into the logs after its worker has ended."""

    def test_poll_answers_for_every_handle(self, stage: Stage) -> None:
        """``poll`` says one of four words for each handle it is given, and ``unknown`` for what it cannot look at.

        It is a hint, asked several times a second: it neither raises nor leaves one out, and None is no word. Fix
        ``poll``; a reason may follow ``failed``, after a colon.
        """
        run = stage(ranks=2)
        [own] = run.start(0)
        asked = [*_STRANGERS, own]
        said = run.provider.poll(asked)
        assert set(said) == set(asked)
        assert {word.partition(":")[0] for word in said.values()} <= _WORDS
        assert {said[handle] for handle in _STRANGERS} == {"unknown"}, "what is no worker of this provider is unknown"
        assert dict(run.provider.poll([])) == {}

    def test_poll_sees_how_workers_end(self, stage: Stage) -> None:
        """A worker runs until it has ended; then it is ``succeeded``, or ``failed`` where it failed; no longer running.

        A driver waits for a worker that is said to run, and starts no other. Fix ``poll``, or say ``unknown`` where
        the end cannot be seen: then signs of life decide.
        """
        run = stage(ranks=1)
        good = run.launch(run.ref(0))
        run.result()
        assert run.ended(0, good, "since it has trained its model") in ("succeeded", "failed", "unknown")
        bad = run.launch(run.failing_ref(0, 1, "nowhere"))
        assert run.ended(0, bad, "since it cannot open its store") in ("failed", "unknown")

    def test_logs_are_by_rank_and_in_order(self, stage: Stage) -> None:
        """``logs`` gives the lines that a rank's workers printed, attempt after attempt; or those of all ranks.

        They are kept with the run, and the last line is what people are told of a worker that failed. Fix ``logs``:
        lines without their ends, of this run, of this rank; and what is printed goes there at once.
        """
        run = stage(ranks=2)
        printed = [(0, 0, "first-word"), (0, 1, "second-word"), (1, 0, "other-word")]
        for rank, attempt, word in printed:
            handle = run.launch(run.failing_ref(rank, attempt, word))
            run.ended(rank, handle, "since it cannot open its store")
        words = [word for _, _, word in printed]
        lines = self._lines(run, words)
        if not lines:
            pytest.skip("logs not declared: they cannot be had from here")
        assert _said(lines, words) == set(words), f"lines are missing: {lines}"
        assert not any("\n" in line for line in lines), "a line has its end in it"
        for rank in range(2):
            mine = run.logs(rank)
            wanted = [word for r, _, word in printed if r == rank]
            assert _said(mine, words) == set(wanted), f"the log of rank {rank} is {mine}"
            last = [max(n for n, line in enumerate(mine) if word in line) for word in wanted]
            assert last == sorted(last), f"the attempts of rank {rank} are not in their order: {mine}"
        assert list(run.provider.logs(run.deployment, "another-run", None, 0.0)) == []

    def _lines(self, run: StagedRun, words: Sequence[str]) -> Sequence[str]:
        """The log, when all words are in it or no more is to be expected."""
        give_up = time.monotonic() + self.logs_s
        while _said(lines := run.logs(None), words) != set(words) and time.monotonic() < give_up:
            time.sleep(0.1)
        return lines

    def test_cancel_ends_all_workers_of_a_run(self, stage: Stage) -> None:
        """When ``cancel`` was called, every worker of the run ends; calling it once more is no error.

        A worker that goes on is paid for, and writes where others have cleaned up. Fix ``cancel``: it ends all of
        these handles, whoever launched them, and what has ended already is as it should be.
        """
        run = stage(ranks=3)
        handles = run.start(0, 1)
        run.cancel()
        for rank, handle in enumerate(handles):
            run.ended(rank, handle, "since its run was cancelled")
        run.cancel()

    def test_cancel_spares_other_runs(self, stage: Stage) -> None:
        """``cancel`` ends no worker of another run, whatever else its deployment has in common with this one.

        Fix it: what is ended is found by the run's name and the deployment's, never by all that there is.
        """
        spared, cancelled = stage(ranks=2), stage(ranks=2)
        [own], [other] = spared.start(0), cancelled.start(0)
        cancelled.cancel()
        cancelled.ended(0, other, "since its run was cancelled")
        assert spared.word(own) in ("running", "unknown")
        for _ in range(2):  # one may have been on its way
            spared.next_beat(0)

    def test_kill_ends_one_worker(self, stage: Stage) -> None:
        """``kill`` ends this worker at once, says whether it ran, and ends no other; ``poll`` says it has failed.

        ``train --chaos`` proves by it that killed workers change no number. Fix ``kill``: SIGKILL, or what comes
        nearest, and nothing is told to the worker; False for one that has ended or is none.
        """
        run = stage(ranks=3)
        killer = _killer(run)
        victim, other = run.start(0, 1)
        assert killer.kill(victim) is True
        assert run.ended(0, victim, "since it was killed") in ("failed", "unknown")
        for handle in (victim, *_STRANGERS):
            assert killer.kill(handle) is False, f"there is nothing to kill: {handle!r}"
        assert run.word(other) in ("running", "unknown")
        run.next_beat(1)


def _said(lines: Iterable[str], words: Iterable[str]) -> set[str]:
    return {word for word in words if any(word in line for line in lines)}


def _killer(run: StagedRun) -> SupportsKill:
    if not isinstance(run.provider, SupportsKill):
        pytest.skip("SupportsKill not implemented: its workers cannot be killed from here")
    return run.provider
