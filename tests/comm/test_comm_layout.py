"""Chunks cut messages exactly and alike on all ranks; a fold has the bytes of a plain loop."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from comm_reference import DTYPES, OPS, arrays_of_ranks, canonical, plain_fold
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_core.comm.base import Op
from lambdaml_core.comm.layout import Layout, RankFold, Workspace, flatten, parse_schema
from lambdaml_core.errors import CorruptMessage, UsageError

shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple) | st.tuples(st.integers(0, 3000))
several = st.dictionaries(
    st.sampled_from(["g", "loss", "n", "a b", "x/y"]), st.tuples(st.sampled_from(DTYPES), shapes), max_size=4
)
aggregators = st.integers(1, 7)
chunk_bytes = st.sampled_from([1, 64, 100, 4096, 1 << 20])


def build(spec: dict[str, tuple[str, tuple[int, ...]]], k: int, size: int) -> Layout:
    return Layout({n: np.zeros(s, d) for n, (d, s) in spec.items()}, "sum", aggregators=k, chunk_bytes=size)


@given(several, aggregators, chunk_bytes)
def test_chunks_cut_the_arrays_exactly(spec: dict[str, tuple[str, tuple[int, ...]]], k: int, size: int) -> None:
    layout = build(spec, k, size)
    for i, (dtype, shape) in enumerate(spec.values()):
        pieces = [piece for chunk in layout.chunks for piece in chunk if piece.array == i]
        bounds = [0, *(piece.hi for piece in pieces)]
        assert [piece.lo for piece in pieces] == bounds[:-1], "pieces follow each other"
        assert bounds[-1] == np.zeros(shape, dtype).size, "and cover the array"
    for chunk in layout.chunks:
        ends = [p.at + (p.hi - p.lo) * layout.dtypes[p.array].itemsize for p in chunk]
        assert all(piece.at % layout.dtypes[piece.array].itemsize == 0 for piece in chunk)
        assert all(end <= piece.at for end, piece in zip(ends, chunk[1:], strict=False)), "they do not overlap"


@given(several, aggregators, st.sampled_from([64, 100, 4096, 1 << 20]))
def test_chunks_are_of_one_size_and_as_small_as_asked(
    spec: dict[str, tuple[str, tuple[int, ...]]], k: int, size: int
) -> None:
    layout = build(spec, k, size)
    assert len(layout.chunks) % k == 0, "all aggregators have the same number of chunks"
    total = sum(layout.chunk_bytes)
    unit = next((unit for unit in (4096, 64) if total >= 16 * unit * len(layout.chunks)), 8)
    blocks = [-(-nbytes // unit) for nbytes in layout.chunk_bytes]
    n, c = -(-total // unit), len(blocks)
    assert blocks == [n // c + (i < n % c) for i in range(c)], "n // C each, and one more for the first n mod C"
    assert max(layout.chunk_bytes) < size + unit
    assert [layout.payload_bytes(c) <= b for c, b in enumerate(layout.chunk_bytes)] == [True] * c


@given(several, aggregators, chunk_bytes)
def test_all_ranks_have_one_layout(spec: dict[str, tuple[str, tuple[int, ...]]], k: int, size: int) -> None:
    one, other = build(spec, k, size), build(spec, k, size)
    assert (one.schema, one.chunks) == (other.schema, other.chunks)
    assert parse_schema(one.schema) == {n: (np.dtype(d), s) for n, (d, s) in spec.items()}


@given(st.data(), aggregators, chunk_bytes)
def test_payloads_are_views_that_come_back(data: st.DataObject, k: int, size: int) -> None:
    (x,) = data.draw(arrays_of_ranks(1))
    layout = Layout(x, "sum", aggregators=k, chunk_bytes=size)
    flat = flatten(x)
    fresh = {name: np.zeros_like(a) for name, a in x.items()}
    for chunk in range(len(layout.chunks)):
        parts = layout.payload(chunk, flat)
        pieces = zip(layout.chunks[chunk], (p for p in parts if not isinstance(p, bytes)), strict=True)
        assert all(np.shares_memory(np.asarray(part), flat[piece.array]) for piece, part in pieces)
        payload = memoryview(b"".join(parts))
        assert payload.nbytes == layout.payload_bytes(chunk)
        for own, view in zip(layout.own(chunk, flatten(fresh)), layout.views(chunk, payload), strict=True):
            own[...] = view
    assert all(fresh[name].tobytes() == a.tobytes() for name, a in x.items())


@given(st.data(), st.integers(1, 5), st.sampled_from(OPS), aggregators, st.sampled_from([64, 128, 1 << 20]))
def test_a_fold_is_a_plain_loop(data: st.DataObject, size: int, op: Op, k: int, chunk: int) -> None:
    given_arrays = data.draw(arrays_of_ranks(size))
    expected = plain_fold(given_arrays, op)
    for me in range(size):
        x = {name: a.copy() for name, a in given_arrays[me].items()}
        fold_all(given_arrays, x, me, op, k, chunk)
        assert {n: canonical(a) for n, a in x.items()} == {n: canonical(a) for n, a in expected.items()}


def fold_all(
    ranks: list[dict[str, NDArray[Any]]], x: dict[str, NDArray[Any]], me: int, op: Op, k: int, chunk_bytes: int
) -> None:
    """Fold everybody's arrays into x, which are those of rank ``me``, chunk by chunk."""
    layout, workspace = Layout(x, op, aggregators=k, chunk_bytes=chunk_bytes), Workspace()
    for chunk in range(len(layout.chunks)):
        total = RankFold(layout, chunk, layout.own(chunk, flatten(x)), workspace)
        for rank, other in enumerate(ranks):
            payload = memoryview(b"".join(layout.payload(chunk, flatten(other))))
            total.add(None if rank == me else layout.views(chunk, payload))
        total.finish()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_zeros_have_the_sign_of_a_plain_loop_wherever_a_chunk_begins(op: Op, dtype: str) -> None:
    signs = np.array(list(itertools.product([0.0, -0.0], repeat=3)), dtype).T  # every combination of three ranks
    ranks = [{"g": np.resize(row, 333)} for row in signs]
    expected = plain_fold(ranks, op)["g"].tobytes()
    for me, chunk in itertools.product(range(3), [64, 128, 192, 4096]):
        x = {"g": ranks[me]["g"].copy()}
        fold_all(ranks, x, me, op, 1, chunk)
        assert x["g"].tobytes() == expected


def test_float16_is_rounded_once() -> None:
    small = np.float16(2**-11)  # added one by one to 1 in float16, nothing would ever come of it
    ranks = [{"g": np.full(3, value, np.float16)} for value in (1, small, small, small)]
    x = {"g": ranks[1]["g"].copy()}
    fold_all(ranks, x, 1, "sum", 1, 64)
    assert x["g"][0] == np.float16(1 + 3 * 2**-11) != np.float16(1)


def test_integers_wrap() -> None:
    ranks = [{"g": np.full(3, 100, np.int8)} for _ in range(3)]
    x = {"g": ranks[0]["g"].copy()}
    fold_all(ranks, x, 0, "sum", 1, 64)
    assert x["g"].tolist() == [44, 44, 44]


@pytest.mark.parametrize(
    ("x", "op", "message"),
    [
        ({"g": np.zeros(3, complex)}, "sum", "complex128"),
        ({"g": np.zeros(3, bool)}, "sum", "bool"),
        ({"g": np.zeros(3, object)}, "sum", "object"),
        ({"g": np.zeros(3, ">f8")}, "sum", "byte order"),
        ({"g": [1.0]}, "sum", "list"),
        ({"g:h": np.zeros(3)}, "sum", "cannot name"),
        ({"é": np.zeros(3)}, "sum", "cannot name"),
        ({"g": np.zeros(3)}, "mean", "no operation"),
        ({"g": np.zeros(3)}, {"h": "sum"}, "no such array"),
    ],
)
def test_what_cannot_be_moved_is_refused(x: Any, op: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Layout(x, op, aggregators=1, chunk_bytes=64)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)).T[1:], np.zeros(8)[::2], np.frombuffer(bytes(8))])
def test_what_cannot_change_in_place_is_refused(wrong: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match="array g must be C-contiguous and writable"):
        flatten({"g": wrong})


@pytest.mark.parametrize("schema", [b"x", b"g:f4:3:sum;", b"g:zz:3:sum", b"g:f4:axb:sum", b"\xff:f4:3:sum"])
def test_a_schema_that_is_none_is_corrupt(schema: bytes) -> None:
    with pytest.raises(CorruptMessage):
        parse_schema(schema)
