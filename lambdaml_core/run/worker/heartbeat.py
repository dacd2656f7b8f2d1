"""Signs of life: a worker gives its own, and looks for those of others where it waits for them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any

from lambdaml_core.data.base import Batch, Data
from lambdaml_core.errors import ResultLost, RunCancelled, StorageError, StorageUnavailable
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import beat_key, cancel_key, claim_key, end_key, generation_key
from lambdaml_core.run.spec import get_all_json, put_json
from lambdaml_core.run.worker.leaving import Superseded
from lambdaml_core.storage import FullStorage

_LOOKS = 6  # in a row, a quarter of the deadline apart: then all wait for what will not come


class Heart:
    """Beats from a thread of its own until it is left; use as a context manager.

    With each beat it looks whether the run was cancelled, or a newer attempt or generation has begun; :meth:`check`
    raises what it has found, in the thread that works. What the store cannot do is tried again with the next beat.

    It falls silent when the thread that works has not called :meth:`check` for long: it hangs, and must be replaced.

    Args:
        state: what a beat says besides its number, the attempt and the time; called in any thread.
        longest_step_s: how long is long.
        stop: set by whoever wants a thread of this process to end early.
    """

    def __init__(
        self,
        store: FullStorage,
        ref: WorkerRef,
        *,
        period_s: float,
        state: Callable[[], Mapping[str, Any]],
        longest_step_s: float = math.inf,
        stop: threading.Event | None = None,
    ) -> None:
        self._store, self._ref, self._period_s, self._state = store, ref, period_s, state
        self._stop = stop or threading.Event()
        self._longest_step_s, self._checked = longest_step_s, time.monotonic()
        self._news = (
            cancel_key(ref.generation),
            claim_key(ref.generation, ref.rank, ref.attempt + 1),
            generation_key(ref.generation + 1),
        )
        self._beats = 0
        self._reason: RunCancelled | Superseded | None = None
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._beat_regularly, name="heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Beat no more."""
        self._leave.set()
        self._thread.join()

    def check(self) -> None:
        """Cheap, for wherever the work can be left.

        Raises:
            RunCancelled, Superseded: as far as is known.
        """
        self._checked = time.monotonic()
        self._raise()

    def _raise(self) -> None:
        if self._reason is not None:
            raise self._reason
        if self._stop.is_set():
            raise RunCancelled("the run was cancelled")

    def give_up(self) -> None:
        """As :meth:`check`, for threads that expect nothing but what a storage raises.

        Raises:
            StorageUnavailable: there is no reason to try a request again.
        """
        try:
            self._raise()
        except (RunCancelled, Superseded) as e:
            raise StorageUnavailable(f"not tried any longer: {e}") from e

    def beat(self) -> None:
        """Look now, and give a sign of life.

        Raises:
            StorageError: the store cannot be used.
            RunCancelled, Superseded: there is no reason to go on.
        """
        with self._lock:
            self._raise()
            found = self._store.get_many(self._news)
            cancelled, *superseded = (key in found for key in self._news)
            if cancelled:
                self._reason = RunCancelled("the run was cancelled")
            elif any(superseded):
                self._reason = Superseded("another process does this work now")
            self._raise()  # before the beat: the newer attempt's is not to be overwritten
            self._beats += 1
            ref = self._ref
            beat = {"attempt": ref.attempt, "beat": self._beats, "time_s": time.time(), **self._state()}
            put_json(self._store, beat_key(ref.generation, ref.rank), beat)

    def _beat_regularly(self) -> None:
        while self._reason is None and not self._leave.wait(self._period_s):
            if time.monotonic() - self._checked < self._longest_step_s:
                with contextlib.suppress(StorageError, RunCancelled, Superseded):
                    self.beat()


class Signs:
    """When the others were last seen to be alive, by this process's clock: what an engine asks while it waits.

    Args:
        others: all other ranks, where this one is to notice that everybody waits for everybody; one of a run is enough.
    """

    def __init__(
        self,
        store: FullStorage,
        generation: int,
        *,
        others: Collection[int] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._generation, self._others, self._now = store, generation, others, now
        self._began = now()
        self._looks, self._looked_in = 0, -1  # in a row at which all waited, and in which collective
        self._seen: dict[int, tuple[tuple[int, int], float]] = {}  # of each rank: (attempt, beat), and when it rose

    def __call__(self, missing: Collection[int], sequence: int) -> Mapping[int, float]:
        """Seconds since the last sign of life of each of these ranks: a beat, or the claim of a newer attempt.

        Raises:
            ResultLost: one of them is past the collective that is waited in; ``sequence`` is the number of the next.
                Or all ranks have waited in it for long.
        """
        found = get_all_json(self._store, [key for rank in missing for key in self._keys(rank)])
        ages = {rank: self._age(rank, sequence, found) for rank in missing}
        self._notice_deadlock(missing, sequence, found)
        return ages

    def _notice_deadlock(self, missing: Collection[int], sequence: int, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Ranks whose messages displace each other's in the channel would bring them back for ever.

        Those beside the missing are asked for only where these wait, too.
        """
        if self._looked_in != sequence:
            self._looks, self._looked_in = 0, sequence
        waits = bool(self._others) and self._all_wait(missing, sequence, found)
        if waits:
            rest = [rank for rank in self._others if rank not in missing]
            more = get_all_json(self._store, [beat_key(self._generation, rank) for rank in rest])
            waits = self._all_wait(rest, sequence, more)
        self._looks = self._looks + 1 if waits else 0
        if self._looks == _LOOKS:
            raise ResultLost(
                f"all workers wait for messages of collective {sequence - 1}, which the channel keeps losing",
                hint="give the channel more memory",
            )

    def _all_wait(self, ranks: Collection[int], sequence: int, found: Mapping[str, Mapping[str, Any]]) -> bool:
        beats = [found.get(beat_key(self._generation, rank)) for rank in ranks]
        return all(beat is not None and beat["waiting"] and beat["sequence"] == sequence for beat in beats)

    def _keys(self, rank: int) -> Iterator[str]:
        yield beat_key(self._generation, rank)
        yield end_key(self._generation, rank)
        yield claim_key(self._generation, rank, self._last(rank)[0][0] + 1)

    def _last(self, rank: int) -> tuple[tuple[int, int], float]:
        return self._seen.get(rank, ((-1, 0), self._began))

    def _age(self, rank: int, sequence: int, found: Mapping[str, Mapping[str, Any]]) -> float:
        beat_at, end_at, claim_at = self._keys(rank)
        beat = found.get(beat_at)
        if end_at in found or (beat is not None and beat["sequence"] > sequence):
            raise ResultLost(
                f"rank {rank} has finished collective {sequence - 1}, and its result is nowhere",
                hint="the channel has lost it; give it more memory, or set checkpoint.retain_bytes lower",
            )
        (attempt, number), since = self._last(rank)
        newest = max(
            (attempt, number),
            (attempt + 1, 0) if claim_at in found else (-1, 0),
            (beat["attempt"], beat["beat"]) if beat is not None else (-1, 0),
        )
        if newest > (attempt, number):
            since = self._now()
        self._seen[rank] = (newest, since)
        return self._now() - since


class CheckedData:
    """Rows that ask before each batch whether the work goes on: it can be left between local steps."""

    def __init__(self, inner: Data, check: Callable[[], None]) -> None:
        self.rows, self.features, self.classes = inner.rows, inner.features, inner.classes
        self.steps_per_epoch = inner.steps_per_epoch
        self._inner, self._check = inner, check

    def batch(self, step: int) -> Batch:
        """As :meth:`Data.batch`."""
        self._check()
        return self._inner.batch(step)

    def blocks(self) -> Iterator[Batch]:
        """As :meth:`Data.blocks`."""
        for block in self._inner.blocks():
            self._check()
            yield block
