"""Memory that values are received into, used again once nobody looks at it any more."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import aligned_empty

_UNIT = 64 << 10  # sizes are rounded up to it, so that values of about one size share blocks


class Blocks:
    """Receiving into fresh pages takes about twice as long as into pages that have been written to before.

    A block is free when its reference count says that no view of it is left: whoever got a value need not give it back.

    Args:
        limit_bytes: most memory kept; what is taken beyond it goes back to the system after use.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._blocks: defaultdict[int, list[NDArray[Any]]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """``size`` bytes, 64-byte aligned, with any contents."""
        rounded = -(-size // _UNIT) * _UNIT
        with self._lock:
            kept = self._blocks[rounded]
            free = next((i for i, count in enumerate(_references(kept)) if count == _FREE), None)
            if free is not None:
                return kept[free].data[:size]
            new = aligned_empty((rounded,), np.uint8)
            if self._held_bytes + rounded > self._limit_bytes:
                self._forget()
            if self._held_bytes + rounded <= self._limit_bytes:
                self._blocks[rounded].append(new)
                self._held_bytes += rounded
            return new.data[:size]

    def clear(self) -> None:
        """Keep nothing; views stay good."""
        with self._lock:
            self._blocks.clear()
            self._held_bytes = 0

    def _forget(self) -> None:
        """Make room by blocks that nobody uses: they are of sizes that are not asked for any more."""
        for rounded, blocks in self._blocks.items():
            used = [blocks[i] for i, count in enumerate(_references(blocks)) if count != _FREE]
            self._held_bytes -= rounded * (len(blocks) - len(used))
            self._blocks[rounded] = used


def _references(blocks: Sequence[NDArray[Any]]) -> list[int]:
    """How many there are to each: those of its views, and the same number for all that looking takes."""
    return [sys.getrefcount(block) for block in blocks]


_FREE = _references([np.empty(1)])[0]  # not the same in all versions of Python: 3.14 borrows where others count
