"""Checkpoints beside training: when one is due, and a thread that writes it while the next rounds are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.errors import StorageError
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.run.spec import Checkpointing

_MOST_FAILURES = 3  # in a row, before one is raised


class _Copy(NamedTuple):
    """What of a checkpoint is to be written."""

    round: int
    sequence: int
    parts: dict[str, dict[str, NDArray[Any]]]


class Saver:
    """Writes the checkpoints of one rank.

    Checkpoints are written in order and none is left out: one that fails is tried again before the next.

    Args:
        checkpoints: as they are after their look for the newest.
        retained: bytes of messages of this attempt's collectives so far.
        advance: told the sequence number of the second-newest checkpoint: what came before it is not needed any more.
            Called at once, and then whenever a checkpoint has been written, in the thread that writes; on a rank that
            writes nothing, in :meth:`save`.
        restored: where this attempt starts.
        before_write: what must not be behind a checkpoint; called in the thread that writes. Its StorageError is one of
            writing.
        now: a clock in seconds.

    Attributes:
        count, bytes: checkpoints that this rank has written something of, and how much.
        seconds: that training was held up.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        policy: Checkpointing,
        *,
        retained: Callable[[], int],
        advance: Callable[[int], None],
        restored: Checkpoint | None,
        before_write: Callable[[], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count, self.bytes, self.seconds = 0, 0, 0.0
        self._checkpoints, self._policy, self._now = checkpoints, policy, now
        self._retained, self._advance, self._before_write = retained, advance, before_write
        self._newest = checkpoints.newest_sequence()
        self._last_round = restored.round if restored is not None else 0
        self._last_s, self._last_retained = now(), 0
        # of a hand-over no other rank has anything: with one after the other, nothing would ever be given up
        self._overdue = restored is not None and restored.sequence != self._newest
        self._pending: list[_Copy] = []  # the writer's while it runs
        self._spare: dict[str, dict[str, NDArray[Any]]] = {}
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None
        self._failures = 0
        advance(checkpoints.frontier())

    def due(self, round: int) -> bool:
        """Whether a checkpoint is to be made after this round, of which as many are done. One rank decides for all."""
        policy = self._policy
        return (
            self._overdue
            or (policy.rounds is not None and round - self._last_round >= policy.rounds)
            or (policy.seconds is not None and self._now() - self._last_s >= policy.seconds)
            # results are kept until two newer checkpoints exist
            or (policy.retain_bytes is not None and self._retained() - self._last_retained >= policy.retain_bytes / 2)
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy what this rank has to write, and write it in the background; waits for the last one.

        Raises:
            RunError: an array that a checkpoint cannot keep.
            StorageError: writing failed for the third time in a row.
        """
        began = self._now()
        self._last_round, self._last_s, self._last_retained = checkpoint.round, began, self._retained()
        self._overdue = False
        parts = self._checkpoints.parts(checkpoint)
        if parts:
            self._wait()
            self._pending.append(_Copy(checkpoint.round, checkpoint.sequence, self._copied(parts)))
            self._writer = threading.Thread(target=self._write_all, name="lambdaml-save", daemon=True)
            self._writer.start()
        else:
            self._checkpoints.write(checkpoint.round, checkpoint.sequence, {})
            self._written(checkpoint.sequence)
        self.seconds += self._now() - began

    def close(self) -> None:
        """Wait for what is being written. If that fails it is left out: nobody counts on it yet."""
        if self._writer is not None:
            self._writer.join()

    def _wait(self) -> None:
        self.close()
        error, self._error = self._error, None
        if error is None:
            return
        self._failures += 1
        if self._failures == _MOST_FAILURES or not isinstance(error, StorageError):
            raise error

    def _copied(self, parts: Mapping[str, Arrays]) -> dict[str, dict[str, NDArray[Any]]]:
        """Into the memory of the last copy, which has its pages already."""
        spare, self._spare = self._spare, {}
        copies: dict[str, dict[str, NDArray[Any]]] = {}
        for part, arrays in parts.items():
            copies[part] = {}
            for name, array in arrays.items():
                old = spare.get(part, {}).get(name)
                copy = np.empty_like(array) if old is None or not _alike(old, array) else old
                copy[...] = array
                copies[part][name] = copy
        return copies

    def _write_all(self) -> None:
        try:
            while self._pending:
                if self._before_write is not None:
                    self._before_write()
                copy = self._pending[0]
                self.bytes += self._checkpoints.write(copy.round, copy.sequence, copy.parts)
                self.count += 1
                self._failures = 0
                self._spare = self._pending.pop(0).parts
                self._written(copy.sequence)
        except Exception as e:  # noqa: BLE001  (raised in the thread that trains, when it comes by)
            self._error = e

    def _written(self, sequence: int) -> None:
        before, self._newest = self._newest, sequence
        self._advance(before)


def _alike(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype
