"""What the tests of collectives share: arrays to move, and what must come out, by plain loops."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lambdaml_core.comm.base import Op

DTYPES = [
    *("float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
]
OPS: list[Op] = list(get_args(Op))
Named = dict[str, NDArray[Any]]


@st.composite
def arrays_of_ranks(draw: st.DrawFn, size: int) -> list[Named]:
    """Arrays of equal names, dtypes and shapes for each rank, with every value that a dtype has."""
    spec = draw(
        st.dictionaries(
            st.sampled_from(["g", "loss", "n"]),
            st.tuples(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)),
            max_size=3,
        )
    )
    return [{name: draw(hnp.arrays(dtype, shape)) for name, (dtype, shape) in spec.items()} for _ in range(size)]


def plain_fold(ranks: list[Named], op: Op) -> Named:
    """A copy of rank 0's arrays, then the others in order; float16 sums in float32, rounded once."""
    result = {}
    with np.errstate(all="ignore"):
        for name, first in ranks[0].items():
            wide = np.float32 if op == "sum" and first.dtype == np.float16 else first.dtype
            total = first.astype(wide)
            for other in ranks[1:]:
                value = other[name].astype(wide)
                if op == "sum":
                    total = total + value
                elif op == "min":
                    total = np.minimum(total, value)
                else:
                    total = np.maximum(total, value)
            result[name] = np.asarray(total, wide).astype(first.dtype)
    return result


def canonical(a: NDArray[Any]) -> bytes:
    """The bytes, with one NaN for all: which of two NaNs a sum keeps is the processor's choice."""
    if a.dtype.kind == "f":
        a = np.where(np.isnan(a), np.array(np.nan, a.dtype), a)
    return a.tobytes()
