"""A correct pattern of unusual shape."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from lambdaml_core.comm.base import Call, Effect, Fold, Get, Put


@dataclass(frozen=True)
class Waves:
    """An object with settings and names of its own: chunks go in waves, as if some were more urgent than others."""

    waves: int

    def __call__(self, call: Call) -> Generator[Effect, None, None]:
        if call.rank == call.owner:
            yield Fold(tuple(None if rank == call.rank else self._part(call, rank) for rank in range(call.size)))
            yield Put(call.result)
        else:
            yield Put(self._part(call, call.rank))
        yield Get(call.result)

    def _part(self, call: Call, rank: int) -> str:
        return call.key("wave", call.chunk % self.waves, call.size - rank)
