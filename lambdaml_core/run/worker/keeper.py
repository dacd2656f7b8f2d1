"""Between two rounds of a worker: its checkpoints are written, and it leaves when its time is up."""

from __future__ import annotations

from collections.abc import Callable

from lambdaml_core.comm.engine import Engine
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.run.spec import Checkpointing
from lambdaml_core.run.worker.leaving import TimeUp
from lambdaml_core.run.worker.reporter import Reporter
from lambdaml_core.run.worker.saver import Saver
from lambdaml_core.run.worker.succession import TimeLimit


class WorkerKeeper:
    """Implements :class:`~lambdaml_core.run.worker.training.Keeper`. What has been told of a run is never behind a
    checkpoint: who goes on from there does not tell it again.

    Args:
        restored: where this attempt starts.
        reporter: rank 0's.

    Attributes:
        saver: None where the run makes no checkpoints.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        policy: Checkpointing,
        *,
        restored: Checkpoint | None,
        engine: Engine,
        limit: TimeLimit,
        reporter: Reporter | None,
    ) -> None:
        self.restored = restored
        self._checkpoints, self._engine, self._limit, self._reporter = checkpoints, engine, limit, reporter
        self.saver: Saver | None = None
        if policy.enabled:
            self.saver = Saver(
                checkpoints,
                policy,
                retained=lambda: engine.retained,
                advance=self._advance,
                restored=restored,
                before_write=reporter.flush if reporter is not None else None,
            )

    @property
    def saves(self) -> bool:
        """As :meth:`Keeper.saves`."""
        return self.saver is not None

    def begin(self, checkpoint: Checkpoint) -> None:
        """As :meth:`Keeper.begin`.

        Raises:
            RunError: as :meth:`Checkpoints.parts`.
        """
        if self.saves:
            self._checkpoints.parts(checkpoint)

    def close(self) -> None:
        """Wait for what is being written."""
        if self.saver is not None:
            self.saver.close()

    def due(self, round: int) -> bool:
        """As :meth:`Keeper.due`."""
        return self.saver is not None and self.saver.due(round)

    def save(self, checkpoint: Checkpoint) -> None:
        """As :meth:`Keeper.save`."""
        if self.saver is not None:
            self.saver.save(checkpoint)

    def boundary(self, capture: Callable[[], Checkpoint]) -> None:
        """As :meth:`Keeper.boundary`.

        Raises:
            TimeUp: and the successor can go on from here.
        """
        if self._limit.leaves_no_round(self._engine.waited_s):
            if self._reporter is not None:
                self._reporter.flush()
            self.close()
            self._checkpoints.hand_over(capture())
            raise TimeUp("boundary")

    def _advance(self, sequence: int) -> None:
        """What came before is not needed any more: results of collectives, and checkpoints that all have passed."""
        self._engine.frontier = sequence
        self._checkpoints.remove_before(self._engine.passed)
