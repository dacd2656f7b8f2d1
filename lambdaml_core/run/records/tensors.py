"""Named arrays as a safetensors file that is written from their own memory, and read into aligned memory.

The format (https://huggingface.co/docs/safetensors): the length of a JSON header as u64, the header, then the arrays
one after the other, little-endian and in C order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.aligned import ALIGNMENT, aligned_empty
from lambdaml_core.errors import RunError
from lambdaml_core.storage.base import Buffer

_CODES = {
    np.dtype(kind): code
    for code, kind in {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
    }.items()
}
_KINDS = {code: kind for kind, code in _CODES.items()}
_LENGTH_BYTES = 8


def check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that would not come back as they are.

    Raises:
        RunError: one is not in C order, or not of a boolean, integer or float type of this machine's byte order.
    """
    for name, array in arrays.items():
        if array.dtype not in _CODES or not array.flags.c_contiguous:
            raise RunError(
                f"{name}, of dtype {array.dtype} and shape {array.shape}, cannot be kept in a checkpoint",
                hint="keep state in C-contiguous arrays of bool, int or float, or set checkpoint.enabled = false",
            )


def encode(arrays: Mapping[str, NDArray[Any]]) -> list[Buffer]:
    """The file as a gather list of views of the arrays, which pass :func:`check_arrays`. Their order is kept."""
    # the widest first, so that each starts at a multiple of what it is made of
    placed = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    offsets, at = {}, 0
    for name in placed:
        offsets[name] = [at, at + arrays[name].nbytes]
        at += arrays[name].nbytes
    header = json.dumps(
        {
            name: {"dtype": _CODES[array.dtype], "shape": array.shape, "data_offsets": offsets[name]}
            for name, array in arrays.items()
        }
    ).encode()
    header += b" " * (-(_LENGTH_BYTES + len(header)) % ALIGNMENT)
    length = len(header).to_bytes(_LENGTH_BYTES, "little")
    return [length + header, *(_bytes(arrays[name]) for name in placed if arrays[name].size)]


def decode(data: Buffer) -> dict[str, NDArray[Any]]:
    """Copies of the arrays of a file, each 64-byte aligned and writable, in the order in which they were given.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is no such file.
    """
    view = memoryview(data).cast("B")
    start = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "little")
    header = json.loads(bytes(view[_LENGTH_BYTES:start]))
    header.pop("__metadata__", None)
    arrays = {}
    for name, place in header.items():
        dtype, shape = _KINDS[place["dtype"]], tuple(place["shape"])
        begin, end = place["data_offsets"]
        if end - begin != math.prod(shape) * dtype.itemsize or start + end > view.nbytes:
            raise ValueError(f"{name} has {end - begin} bytes")  # before so much memory is asked for
        arrays[name] = aligned_empty(shape, dtype)
        if begin != end:
            _bytes(arrays[name])[:] = view[start + begin : start + end]
    return arrays


def _bytes(array: NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array that is not empty."""
    return array.reshape(-1).view(np.uint8).data
