"""Memory that starts at a multiple of 64 bytes: the vector loops of numpy and BLAS then take one path everywhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes."""


def aligned_size(size: int) -> int:
    """``size`` rounded up to a multiple of 64."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised C-contiguous array that starts at a multiple of 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT  # .ctypes would import ctypes
    return memory[start : start + size].view(dtype).reshape(shape)
