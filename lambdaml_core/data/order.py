"""The shuffled order of rows: by a hash of seed and row number, so that a row finds its place without the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 1 << 64


def sort_keys(seed: int, numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """What rows are sorted by: uniform on 0..2^64 - 1, and different for different numbers.

    Args:
        seed: any integer; equal modulo 2^64 is equal.
        numbers: (n,) integers from 0.

    The hash is SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014): number n of
    the stream that starts at the mixed seed. Every step of it can be undone, so no two numbers share a key.
    """
    start = _mix(np.array([seed % _WORD], np.uint64))
    return _mix(start + numbers.astype(np.uint64) * np.uint64(_GOLDEN))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key_ranges(count: int) -> NDArray[np.uint64]:
    """(count - 1,) bounds that cut all keys into ranges of equal width."""
    return np.array([i * _WORD // count for i in range(1, count)], np.uint64)


def split_rows(rows: int, validation: float) -> tuple[int, int]:
    """How many rows, in the shuffled order, are to train on, and how many after them are for validation.

    A share above 0 keeps at least one row for each, if there are two.
    """
    if validation == 0 or rows < 2:
        return rows, 0
    kept = min(max(round(rows * validation), 1), rows - 1)
    return rows - kept, kept


def cut_evenly(rows: int, parts: int) -> list[int]:
    """Lengths of ``parts`` ranges of rows, [i * rows // parts, (i + 1) * rows // parts)."""
    return [(i + 1) * rows // parts - i * rows // parts for i in range(parts)]
