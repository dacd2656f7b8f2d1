"""Checkpoints to save and to find again, stores that fail, and bytes that change by themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.optim.base import State
from lambdaml_core.run.records.checkpoints import Checkpoint, Checkpoints
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.layers import FullStorage, Layer

PER_ROUND = 3
"""Collectives in a round of these runs."""

_names = itertools.count()


def new_store() -> FullStorage:
    """An empty store."""
    return open_storage(f"memory://checkpoints-{next(_names)}")


def checkpoint(round: int, rank: int = 0, *, private: bool = False) -> Checkpoint:
    """What a rank has after so many rounds: its own if ``private``, else the same on all ranks."""
    rng = np.random.default_rng(round)
    state = State(rng.normal(size=7), {"velocity": rng.normal(size=7), "steps": np.array(round)}, {})
    if private:
        state.private["local"] = np.array([round, rank], np.float32)
    return Checkpoint(round, PER_ROUND * round, state, {"losses": rng.normal(size=round % 3)})


def ranks(store: FullStorage, size: int, *, generation: int = 0, base: Any = None) -> list[Checkpoints]:
    """The checkpoints as each rank of a run sees them."""
    return [Checkpoints(store, generation=generation, rank=r, size=size, base=base) for r in range(size)]


def same(a: Checkpoint | None, b: Checkpoint | None) -> bool:
    """Equal in every byte, dtype and shape, and in the order of names."""
    if a is None or b is None:
        return a is b
    return a[:2] == b[:2] and [_frozen(named) for named in _tables(a)] == [_frozen(named) for named in _tables(b)]


def _tables(c: Checkpoint) -> Iterable[dict[str, NDArray[Any]]]:
    return {"params": c.state.params}, c.state.shared, c.state.private, dict(c.trainer)


def _frozen(arrays: dict[str, NDArray[Any]]) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    return [(name, a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()]


class Killed(Exception):
    """The process is no more."""


class Mortal(Layer):
    """The store of a process that is killed, or cut off from its store, before one of its next puts.

    Attributes:
        lives: puts until it is killed; None = it is not.
        fails: how many of the next puts fail.
    """

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        self.lives: int | None = None
        self.fails = 0

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if self.lives is not None:
            if not self.lives:
                raise Killed
            self.lives -= 1
        if self.fails:
            self.fails -= 1
            raise StorageUnavailable(f"{key} could not be stored")
        return super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)


def tear(store: FullStorage, key: str, how: int) -> None:
    """Lose a value (0), cut it short (odd), or change one bit of it (even)."""
    data = bytearray(store.get(key))
    if how == 0 or not data:
        store.delete([key])
    elif how % 2:
        store.put(key, [data[: how % len(data)]])
    else:
        data[how % len(data)] ^= 1 << (how // 2 % 8)
        store.put(key, [data])
