"""Ranks that die at any request, as often as they like, and are replaced while the others go on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from replay_ranks import ROUNDS, Case, cases, ranks

from lambdaml_core.run.records.checkpoints import Checkpoint
from lambdaml_core.storage import FullStorage
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import Layer
from lambdaml_core.testing.optimizer_laws.ranks import Notebook, Told, copy, fresh_channel
from lambdaml_core.testing.threads import together


class Killed(Exception):
    """The end of an attempt."""


class Fate(NamedTuple):
    """An attempt dies at this request, before or after it is done."""

    request: int
    after: bool


class Mortal(Layer):
    """The channel of an attempt."""

    def __init__(self, inner: FullStorage, fate: Fate | None) -> None:
        super().__init__(inner)
        self._fate, self._requests = fate, 0

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self._live(after=False)
        stored = self.inner.put_many(items, if_absent=if_absent, ttl_s=ttl_s)
        self._live(after=True)
        return stored

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        self._live(after=False)
        found = self.inner.get_many(keys, wait_s=wait_s)
        self._live(after=True)
        return found

    def delete(self, keys: Iterable[str]) -> None:
        self._live(after=False)
        self.inner.delete(keys)
        self._live(after=True)

    def _live(self, *, after: bool) -> None:
        self._requests += not after
        if self._fate is not None and self._requests >= self._fate.request and after >= self._fate.after:
            raise Killed


class Store:
    """Where the checkpoints of all ranks are."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._saved: dict[tuple[int, int], Checkpoint] = {}

    def save(self, rank: int, checkpoint: Checkpoint) -> None:
        self._saved.setdefault((rank, checkpoint.round), checkpoint)

    def complete(self, rank: int) -> list[Checkpoint]:
        """The complete ones, as this rank sees them, in order."""
        ranks = range(self._case.size) if self._case.private else [0]
        own = rank if self._case.private else 0
        rounds = [r for r in range(1, ROUNDS) if all((other, r) in self._saved for other in ranks)]
        return [self._saved[own, r] for r in rounds]


def live(
    case: Case, rank: int, channel: FullStorage, store: Store, fates: Sequence[Fate], minds: Sequence[set[int]]
) -> Told:
    """All attempts of a rank; what the last of them told. Each second one wants checkpoints at other rounds."""
    for attempt, fate in enumerate([*fates, None]):
        known = store.complete(rank)
        start = copy(known[-1]) if known else None
        comm = ranks(case).engine(rank, Mortal(channel, fate), start, restored=attempt > 0)
        sequences = [0, *(checkpoint.sequence for checkpoint in known)]
        comm.frontier = [0, *sequences][-2]

        def save(checkpoint: Checkpoint, comm: Any = comm, sequences: list[int] = sequences) -> None:
            store.save(rank, checkpoint)
            comm.frontier = max(comm.frontier, sequences[-1])
            sequences.append(checkpoint.sequence)

        try:
            if attempt:
                comm.adopt()
            told = ranks(case).train(comm, Notebook(minds[attempt % 2], start, on_save=save))
            comm.barrier()
        except Killed:
            continue
        return told
    raise AssertionError("the last attempt has no fate")


fates = st.lists(st.builds(Fate, st.integers(1, 40), st.booleans()), max_size=3)


@settings(max_examples=min(300, settings().max_examples))
@given(
    case=cases(least=2),
    due=st.sets(st.integers(1, ROUNDS), max_size=4),
    other=st.sets(st.integers(1, ROUNDS), max_size=4),
    killed=st.lists(fates, min_size=4, max_size=4),
)
def test_kills_change_no_byte(case: Case, due: set[int], other: set[int], killed: list[list[Fate]]) -> None:
    undisturbed, _ = ranks(case).quiet()
    channel, store = fresh_channel(), Store(case)
    works = [
        lambda rank=rank: live(case, rank, channel, store, killed[rank], [due, other]) for rank in range(case.size)
    ]
    for rank, told in enumerate(together(*works, limit_s=60)):
        start = told.notebook.restored
        assert told.after(0) == undisturbed[rank].after(start.round if start else 0)
