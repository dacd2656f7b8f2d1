"""Ranks to train and to start again: real trainers and engines in threads, whose checkpoints stay in memory."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.comm.base import Arrays, Fill, Op
from lambdaml_core.comm.engine import Engine
from lambdaml_core.optim.base import State
from lambdaml_core.run.records.checkpoints import Checkpoint
from lambdaml_core.run.worker.training import Outcome, Progress, Trainer
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.testing.threads import together

Parts = Callable[[int], Mapping[str, Any]]
"""By rank: the arguments of its trainer, but for ``comm``, ``seed``, ``on_round`` and ``keeper``."""

_CHUNK_BYTES = 2048
"""So that figures of classes, and models of some hundred parameters, are several chunks."""

# --- checkpoints and results ----------------------------------------------------------------------------------


def copy_state(state: State) -> State:
    """In arrays of their own."""

    def fresh(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        copies = {}
        for name, array in arrays.items():
            copies[name] = aligned_empty(array.shape, array.dtype)
            copies[name][...] = array
        return copies

    return State(fresh({"": state.params})[""], fresh(state.shared), fresh(state.private))


def copy(checkpoint: Checkpoint) -> Checkpoint:
    """As a store would give it back: arrays of their own."""
    trainer = copy_state(State(checkpoint.state.params, dict(checkpoint.trainer), {})).shared
    return checkpoint._replace(state=copy_state(checkpoint.state), trainer=trainer)


def common(state: State) -> dict[str, bytes]:
    """What all ranks must have alike, by name."""
    return {"params": state.params.tobytes()} | {f"shared {n}": a.tobytes() for n, a in state.shared.items()}


def differing(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> list[str]:
    """The names of which these do not have the same bytes."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def content(checkpoint: Checkpoint) -> Any:
    """All of it, to be compared."""
    private = {name: array.tobytes() for name, array in checkpoint.state.private.items()}
    trainer = {name: array.tobytes() for name, array in checkpoint.trainer.items()}
    return checkpoint.round, checkpoint.sequence, common(checkpoint.state), private, trainer


@dataclass
class Notebook:
    """A keeper in memory: ``saved`` by round, and a checkpoint of every boundary."""

    rounds: Collection[int] = ()
    restored: Checkpoint | None = None
    saved: dict[int, Checkpoint] = field(default_factory=dict)
    boundaries: list[Checkpoint] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    on_save: Callable[[Checkpoint], None] = lambda saved: None
    saves: bool = True
    began: list[Checkpoint] = field(default_factory=list)

    def begin(self, checkpoint: Checkpoint) -> None:
        self.began.append(copy(checkpoint))

    def due(self, round: int) -> bool:
        self.asked.append(round)
        return round in self.rounds

    def save(self, checkpoint: Checkpoint) -> None:
        self.saved[checkpoint.round] = copy(checkpoint)
        self.on_save(self.saved[checkpoint.round])

    def boundary(self, capture: Callable[[], Checkpoint]) -> None:
        self.boundaries.append(copy(capture()))


def fresh_channel() -> FullStorage:
    """An empty one in memory."""
    return open_storage(f"memory://ranks-{uuid.uuid4()}")


def results(channel: FullStorage) -> dict[tuple[int, int], tuple[str, bytes]]:
    """All results that a channel holds, by number of the collective and chunk: key and value."""
    found = {}
    for key in channel.list(""):
        _, folder, name = key.split("/")
        assert folder.startswith("0-"), f"{key} is no result, and what was contributed is gone"
        sequence, chunk = map(int, name.split("."))
        found[sequence, chunk] = key, bytes(channel.get(key))
    return found


# --- a rank ---------------------------------------------------------------------------------------------------


class Watched:
    """An engine of whose collectives it is noted for which a contribution was computed."""

    def __init__(self, engine: Engine) -> None:
        self.rank, self.size, self._engine = engine.rank, engine.size, engine
        self.filled: list[int] = []

    @property
    def sequence(self) -> int:
        return self._engine.sequence

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        number = self.sequence

        def noted(ready: Callable[[int, int], None]) -> None:
            assert fill is not None
            self.filled.append(number)
            fill(ready)

        self._engine.all_reduce(x, op, fill=noted if fill else None)

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        return self._engine.all_gather(x)

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        self._engine.broadcast(x, root)

    def barrier(self) -> None:
        self._engine.barrier()


@dataclass
class Told:
    """What one rank's training came to."""

    outcome: Outcome
    history: list[Progress]
    notebook: Notebook
    filled: list[int]
    sequence: int

    def after(self, round: int) -> Any:
        """What counts, from a round on, to be compared: bytes, and words (NaN is NaN, and -0.0 is not 0.0)."""
        outcome = self.outcome._replace(params=np.empty(0))
        history = [repr((p.round, p.loss, p.figures, p.round_figures)) for p in self.history if p.round > round]
        boundaries = [content(c) for c in self.notebook.boundaries if c.round > round]
        return self.outcome.params.tobytes(), repr(outcome), history, boundaries


class _Abandoned(Exception):
    """Another rank has failed."""


class Party:
    """Who of the ranks that run together is still there, so that nobody waits for one who is not.

    Args:
        whole: all ranks are there; else what there is to be read is there from the beginning.

    Attributes:
        failure: what the first rank that failed raised.
    """

    def __init__(self, whole: bool = True) -> None:
        self.failure: BaseException | None = None
        self._whole = whole
        self._ended: dict[int, int] = {}

    def work(self, engine: Engine, do: Callable[[], Told]) -> Told:
        """A rank's training. If it fails, others that wait leave."""
        try:
            told = do()
        except BaseException as e:
            self.failure = self.failure or e
            raise
        self._ended[engine.rank] = engine.sequence
        return told

    def look(self, engine: Engine) -> None:
        """Raise, if the collective that this rank waits in can never be."""
        if self.failure is not None:
            raise _Abandoned
        assert self._whole, (
            f"rank {engine.rank} waits in collective number {engine.sequence - 1}, and all results are there: it makes "
            "other collectives than the run did"
        )
        for rank, sequence in self._ended.copy().items():
            assert sequence >= engine.sequence, (
                f"rank {rank} was done after {sequence} collectives, and rank {engine.rank} waits for it in number "
                f"{engine.sequence}"
            )


@dataclass(frozen=True)
class Ranks:
    """Trains something, by so many.

    Attributes:
        parts: what each rank trains.
        rounds: how many are planned.
        patience_s: seconds without a sign of life of the others after which a rank gives up.
    """

    parts: Parts
    size: int
    rounds: int
    aggregators: int = 1
    patience_s: float = 30.0
    seed: int = 3

    def quiet(self, rounds: Collection[int] = ()) -> tuple[list[Told], FullStorage]:
        """The undisturbed run, with checkpoints after these rounds; and the channel, which keeps all results."""
        channel = fresh_channel()
        return self.run(channel, rounds=rounds), channel

    def run(
        self,
        channel: FullStorage,
        starts: Mapping[int, Checkpoint | None] | None = None,
        *,
        rounds: Collection[int] = (),
        generation: int = 0,
    ) -> list[Told]:
        """All ranks at once; as replacements, from these checkpoints, where there are any. Results stay.

        Raises:
            BaseException: what the first rank that failed raised.
        """
        ranks = range(self.size) if starts is None else sorted(starts)
        party = Party(whole=len(ranks) == self.size)

        def work(rank: int) -> Told:
            start = starts.get(rank) if starts else None
            engine = self.engine(rank, channel, start, restored=starts is not None, generation=generation, party=party)
            return party.work(engine, lambda: self.train(engine, Notebook(rounds, start and copy(start))))

        with contextlib.suppress(_Abandoned):
            return together(*(lambda rank=rank: work(rank) for rank in ranks), limit_s=2 * self.patience_s)
        assert party.failure is not None
        raise party.failure

    def engine(
        self,
        rank: int,
        channel: FullStorage,
        start: Checkpoint | None,
        *,
        restored: bool,
        generation: int = 0,
        party: Party | None = None,
    ) -> Engine:
        """Without a frontier: every result stays."""
        engine = Engine(
            channel,
            rank=rank,
            size=self.size,
            aggregators=self.aggregators,
            generation=generation,
            sequence=start.sequence if start else 0,
            restored=restored,
            chunk_bytes=_CHUNK_BYTES,
            deadline_s=self.patience_s,
            interrupt=lambda: party.look(engine) if party else None,
        )
        engine.frontier = 0
        return engine

    def train(self, engine: Engine, notebook: Notebook) -> Told:
        """One rank's training, from where the notebook says."""
        comm = Watched(engine)
        history: list[Progress] = []
        trainer = Trainer(
            **self.parts(engine.rank), comm=comm, seed=self.seed, on_round=history.append, keeper=notebook
        )
        outcome = trainer.run(self.rounds)
        return Told(outcome, history, notebook, comm.filled, comm.sequence)
