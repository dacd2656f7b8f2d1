"""What the laws of an optimizer have in common: the problem, and runs of all ranks or of some."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from lambdaml_core.builtin import LinearOptions
from lambdaml_core.models.base import Model
from lambdaml_core.optim.base import Optimizer, State
from lambdaml_core.run.records.checkpoints import Checkpoint
from lambdaml_core.run.spec import Stop
from lambdaml_core.storage import FullStorage
from lambdaml_core.testing.base import Laws
from lambdaml_core.testing.optimizer_laws.ranks import Ranks, Told, common, differing, fresh_channel
from lambdaml_core.testing.optimizer_laws.rows import Classifier, Rows, Share, separable
from lambdaml_core.testing.optimizer_laws.witness import Witness

T = TypeVar("T")

SIZES = range(1, 4)


@dataclass(frozen=True)
class Training:
    """A problem, and who works on it. Each rank has an optimizer and a model of its own, fresh as they were built.

    Attributes:
        batch_size: rows of a mini-batch over all ranks.
        shares: what each rank has, where it is not what core gives it.
        initial: parameters to start from, where they are not the model's own.
        witness: who looks at a rank's optimizer.
        witnesses: those of the latest run, by rank.
    """

    optimizer: Optimizer
    model: Model
    rows: Rows
    rounds: int
    batch_size: int
    patience_s: float
    size: int = 1
    aggregators: int = 1
    shares: Sequence[Share] | None = None
    initial: NDArray[Any] | None = None
    witness: Callable[[Optimizer], Witness] = Witness
    witnesses: dict[int, Witness] = field(default_factory=dict)

    def but(self, **changes: Any) -> Training:
        """The same, but for this."""
        return replace(self, witnesses={}, **changes)

    def run(self, channel: FullStorage | None = None) -> list[Told]:
        """All ranks, undisturbed. Results stay in the channel; one worker alone leaves nothing there."""
        channel = fresh_channel() if channel is None else channel
        told = self._ranks().run(channel)
        assert self.size > 1 or not list(channel.list("")), "one worker has nobody to tell anything"
        return told

    def go_on(
        self, channel: FullStorage, starts: Mapping[int, Checkpoint | None], *, generation: int = 0
    ) -> dict[int, Told]:
        """These ranks as replacements, from these checkpoints (None = the beginning)."""
        told = self._ranks().run(channel, starts, generation=generation)
        return dict(zip(sorted(starts), told, strict=True))

    def _ranks(self) -> Ranks:
        shares = self.shares or self.rows.shares(self.size, self.batch_size)

        def parts(rank: int) -> Mapping[str, Any]:
            self.witnesses[rank] = self.witness(fresh(self.optimizer))
            return {
                "model": fresh(self.model),
                "optimizer": self.witnesses[rank],
                "data": shares[rank],
                "validation": None,
                "evaluate": 2,
                "stop": Stop(),
                "initial": None if self.initial is None else self.initial.copy(),
            }

        return Ranks(
            parts, size=self.size, rounds=self.rounds, aggregators=self.aggregators, patience_s=self.patience_s
        )


class OptimizerCase(Laws):
    """The fixtures that the laws are written with. An author gives ``optimizer``; the others suit most."""

    exact: ClassVar[bool] = False
    """Whether another number of workers changes nothing but rounding, where a mini-batch is all rows."""

    sparse: ClassVar[bool] = True
    """Whether the model takes sparse rows."""

    falls_to: ClassVar[float] = 0.9
    """What share of the loss at the start may be left after 30 rounds on two classes that a plane parts."""

    rounds: ClassVar[int] = 4
    """Rounds of the runs that are replayed: more, where something happens only every so many."""

    batch_size: ClassVar[int] = 16
    """Rows of a mini-batch over all ranks."""

    patience_s: ClassVar[float] = 30.0
    """Seconds without a sign of life of the others after which a rank gives up."""

    @pytest.fixture
    def optimizer(self) -> Optimizer:
        """A built instance. It is copied for each rank and each attempt, and does nothing itself."""
        raise NotImplementedError("give your optimizer to the laws: override the fixture `optimizer`")

    @pytest.fixture
    def model(self) -> Model:
        """What is trained: another one, where the optimizer needs it."""
        return Classifier(LinearOptions())

    @pytest.fixture
    def rows(self) -> Rows:
        """What is learnt from: others, where the model needs them. About forty, in a number that 2, 3 and 4 do not
        divide."""
        return separable()

    @pytest.fixture
    def training(self, optimizer: Optimizer, model: Model, rows: Rows) -> Training:
        """The problem, for one worker."""
        return Training(optimizer, model, rows, self.rounds, self.batch_size, self.patience_s)


def fresh(built: T) -> T:
    """An instance of its own, as another process would build it."""
    try:
        return copy.deepcopy(built)
    except Exception as e:
        raise AssertionError(
            f"{type(built).__name__} cannot be copied: an instance is its frozen options and holds no connection, "
            "file, lock or generator"
        ) from e


def assert_same_state(was: State, now: State, where: str) -> None:
    """All arrays are there with the same bytes."""
    before, after = ({**common(s), **{f"private {n}": a.tobytes() for n, a in s.private.items()}} for s in (was, now))
    different = ", ".join(differing(before, after))
    assert not different, f"{where}: other bytes in {different}"


def assert_same(was: Training, told: Sequence[Told], now: Training, again: Mapping[int, Told], where: str) -> None:
    """Ranks that went on from some round have what the whole run had from there: figures, states and all else."""
    for rank, of in again.items():
        start = of.notebook.restored
        first = start.round if start else 0
        here = f"rank {rank} of {was.size}, from round {first}, {where}"
        ours, theirs = now.witnesses[rank], was.witnesses[rank]
        for n, figures in enumerate(ours.figures):
            assert repr(figures) == repr(theirs.figures[first + n]), f"{here}: other figures of round {first + n}"
            assert_same_state(theirs.states[first + n + 1], ours.states[n + 1], f"{here}, after round {first + n}")
        ended = of.after(first) == told[rank].after(first)  # in words they are long
        assert ended, f"{here}: it ended otherwise"


def close(a: NDArray[Any], b: NDArray[Any], within: float) -> bool:
    """Whether they are equal but for rounding: by norms, in shares of the larger."""
    scale = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)), 1e-3)
    return float(np.linalg.norm(a.astype(np.float64) - b)) <= within * scale
