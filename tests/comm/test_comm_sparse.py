"""Messages that are mostly zeros travel as index-value pairs: fewer bytes, and not a bit of the result is another."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comm_channels import all_well, engines, memory
from comm_reference import DTYPES, OPS, Named
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_core.aligned import aligned_empty
from lambdaml_core.comm import contents
from lambdaml_core.comm.base import Op
from lambdaml_core.comm.contents import InPlace
from lambdaml_core.comm.layout import Layout, Workspace, flatten
from lambdaml_core.comm.planner import Planner
from lambdaml_core.comm.schedule import Requests
from lambdaml_core.comm.simulator import Simulated, simulate
from lambdaml_core.comm.sparse import looks_sparse, pack, unpack
from lambdaml_core.comm.wire import SPARSE, Header, decode, encode
from lambdaml_core.errors import CorruptMessage, MismatchedMessage
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.storage.layers import Count

CAPS = StorageCaps(scope="network", creates_once=True)
BLOCK = 1 << 16

numbers = st.integers(0, 1 << 32)
densities = st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 0.45, 0.6, 0.9, 1.0])


def numbers_of(rng: np.random.Generator, dtype: str, size: int, density: float) -> NDArray[Any]:
    """So many of any bit patterns at all, signed zeros, infinities and every kind of NaN among them; zeros else."""
    itemsize = np.dtype(dtype).itemsize
    bits = rng.integers(0, 256, size * itemsize, np.uint8).view(f"u{itemsize}")
    if dtype.startswith("float"):
        special = np.array([-0.0, 0.0, np.inf, -np.inf, 1.0, -1.0], dtype).view(bits.dtype)
        bits = np.where(rng.random(size) < 0.5, rng.choice(special, size), bits)
    return np.where(rng.random(size) < density, bits, 0).astype(bits.dtype).view(dtype)


@st.composite
def sparse_arrays(draw: st.DrawFn, size: int) -> list[Named]:
    """Arrays of equal names, dtypes and shapes for each rank, each as sparse as it likes."""
    rng = np.random.default_rng(draw(numbers))
    dtypes = draw(st.dictionaries(st.sampled_from(["g", "loss", "n"]), st.sampled_from(DTYPES), min_size=1))
    elements = {name: draw(st.integers(0, 40) | st.integers(100, 3000)) for name in dtypes}
    return [
        {name: numbers_of(rng, dtype, elements[name], draw(densities)) for name, dtype in dtypes.items()}
        for _ in range(size)
    ]


def run(ranks: list[Named], collective: Callable[[Planner, Named], Requests], **settings: Any) -> Simulated:
    """A collective of all ranks, whose arrays change in place."""
    return simulate(lambda planner: collective(planner, ranks[planner.rank]), CAPS, size=len(ranks), **settings)


def copies(ranks: list[Named]) -> list[Named]:
    return [{name: a.copy() for name, a in x.items()} for x in ranks]


def the_bytes(ranks: list[Named]) -> list[dict[str, bytes]]:
    return [{name: a.tobytes() for name, a in x.items()} for x in ranks]


def both_ways(
    ranks: list[Named], collective: Callable[[Planner, Named], Requests], **settings: Any
) -> tuple[Simulated, Simulated]:
    """What it costs, and what it would cost if zeros travelled as everything else; the results must be the same."""
    sparse, dense = copies(ranks), copies(ranks)
    ours = run(sparse, collective, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "looks_sparse", lambda pieces: False)
        theirs = run(dense, collective, **settings)
    assert the_bytes(sparse) == the_bytes(dense)
    assert ours.counts.sent <= theirs.counts.sent
    assert (ours.counts.put, ours.counts.get) == (theirs.counts.put, theirs.counts.get)
    return ours, theirs


# --- the same results -----------------------------------------------------------------------------------------


@given(st.data(), st.integers(2, 4), st.sampled_from(OPS), st.sampled_from([64, 640, 4096, 1 << 20]))
def test_a_fold_has_the_bytes_of_a_dense_one(data: st.DataObject, size: int, op: Op, chunk_bytes: int) -> None:
    ranks = data.draw(sparse_arrays(size))
    k = data.draw(st.integers(1, size))
    both_ways(ranks, lambda p, x: p.all_reduce(x, op).run(None), aggregators=k, chunk_bytes=chunk_bytes)


@given(st.data(), st.integers(2, 3), st.sampled_from([64, 4096, 1 << 20]))
def test_a_broadcast_brings_the_bytes_of_the_root(data: st.DataObject, size: int, chunk_bytes: int) -> None:
    ranks = data.draw(sparse_arrays(size))
    both_ways(ranks, lambda p, x: p.broadcast(x, size - 1).run(None), chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_zero_that_did_not_travel_is_a_positive_one(dtype: str, op: Op) -> None:
    """-0.0 + 0.0 is 0.0, and so it must be if the second one is left out."""
    first, second = np.zeros((2, 1000), dtype)
    first[:700], first[3], second[3], second[5] = -0.0, -0.0, -0.0, -0.0
    given_ranks: list[Named] = [{"g": first}, {"g": second}, {"g": second.copy()}]
    for k in (1, 3):
        both_ways(given_ranks, lambda p, x: p.all_reduce(x, op).run(None), aggregators=k)


@given(
    st.sampled_from(DTYPES), st.lists(st.sampled_from([0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]), max_size=3)
)
def test_pieces_of_any_number_of_blocks_come_back(dtype: str, sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    for density in (0.0, 0.01, 0.4):
        pieces = [numbers_of(rng, dtype, size, density) for size in sizes]
        for piece in pieces:
            piece[-1:] = 1  # the last of all must be one of them
        room = aligned_empty((sum(p.nbytes for p in pieces) * 2 + 64,), np.uint8)
        room.fill(0xEE)
        size = pack(pieces, room)
        assert bytes(room[size:]) == b"\xee" * (room.nbytes - size), "nothing else is written"
        back = [np.full_like(piece, 99) for piece in pieces]
        unpack(room[:size].data, back).expand(back)
        assert [a.tobytes() for a in back] == [a.tobytes() for a in pieces]


# --- how many bytes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.001, 0.01, 0.1, 0.25])
def test_bytes_are_fewer_than_those_of_pairs_of_32_bit_indices_and_values(dtype: str, density: float) -> None:
    rng = np.random.default_rng(7)
    x = np.where(rng.random(1 << 18) < density, 1, 0).astype(dtype)

    def reduce(planner: Planner, arrays: Named) -> Requests:
        yield from planner.all_reduce(arrays).run(None)

    counts = run([{"g": x.copy()}, {"g": x.copy()}], reduce, chunk_bytes=1 << 30).counts
    pairs = np.count_nonzero(x) * (4 + x.itemsize)
    assert counts.put == 2, "the contribution of one rank, and the result"
    assert counts.sent <= 2 * min(1.1 * pairs, x.nbytes + 128)


def test_dense_arrays_travel_with_sparse_ones() -> None:
    """A gradient of few features beside a loss, a count and a bias: the usual message."""
    x: Named = {"g": np.zeros(1 << 16, np.float32), "totals": np.array([0.7, 1000.0])}
    x["g"][::1000] = 1.5
    sparse, dense = both_ways([x, x], lambda p, y: p.all_reduce(y).run(None))
    assert sparse.counts.sent < dense.counts.sent / 50


def test_dense_and_empty_messages_travel_as_they_are() -> None:
    for x in ({"g": np.ones(1000)}, {"g": np.zeros(0)}, {}, {"g": np.zeros(7, np.float64)}):
        sparse, dense = both_ways([x, x], lambda p, y: p.all_reduce(y).run(None))
        assert sparse.counts.sent == dense.counts.sent


@pytest.mark.parametrize("columns", [2, 3, 7, 10, 16, 128, 1000])
def test_one_column_of_a_table_looks_as_sparse_as_it_is(columns: int) -> None:
    table = np.zeros((200_000 // columns, columns), np.float32)
    table[:, 0] = 1
    assert looks_sparse([table.reshape(-1)])
    table[:, 1:], table[:, 0] = 1, 0
    assert looks_sparse([table.reshape(-1)]) == (columns == 2)


def test_a_value_is_never_larger_than_a_dense_one() -> None:
    for density in np.linspace(0, 1, 41):
        for dtype in DTYPES:
            piece = numbers_of(np.random.default_rng(3), dtype, 1000, density)
            for room in (piece.nbytes - 1, piece.nbytes // 2, 8, 0):
                assert pack([piece], aligned_empty((room,), np.uint8)) <= room


# --- damage ---------------------------------------------------------------------------------------------------


def packed(pieces: list[NDArray[Any]]) -> NDArray[np.uint8]:
    room = aligned_empty((sum(piece.nbytes for piece in pieces) + 64,), np.uint8)
    return room[: pack(pieces, room)]


def one_block() -> tuple[list[NDArray[Any]], NDArray[np.uint8]]:
    """A count of 4 in 8 bytes, the indices 3, 50, 51 and 99 in 8 bytes, four values in 16 bytes."""
    piece = np.zeros(100, np.float32)
    piece[[3, 50, 51, 99]] = 1, 2, 3, 4
    data = packed([piece])
    assert data.nbytes == 32
    return [piece], data


@pytest.mark.parametrize("count", [0, 2, 5, 9, 99, 100, 101, 1 << 31, (1 << 32) - 1])
def test_a_wrong_count_is_noticed(count: int) -> None:
    like, data = one_block()
    data[:4].view(np.uint32)[0] = count
    with pytest.raises(CorruptMessage, match="index-value pairs"):
        unpack(data.data, like)


@pytest.mark.parametrize("length", [*range(32), 33, 40, 400])
def test_a_wrong_length_is_noticed(length: int) -> None:
    like, data = one_block()
    data = np.resize(data, length)
    with pytest.raises(CorruptMessage, match=f"{length} bytes"):
        unpack(data.data, like)


@pytest.mark.parametrize(
    "indices", [(3, 50, 50, 99), (50, 3, 51, 99), (3, 50, 51, 100), (3, 50, 51, 65535), (0, 0, 0, 0)]
)
def test_wrong_indices_are_noticed(indices: tuple[int, ...]) -> None:
    like, data = one_block()
    data[8:16].view(np.uint16)[:] = indices
    message = unpack(data.data, like)
    with pytest.raises(CorruptMessage, match="ascend"):
        message.expand([np.empty_like(piece) for piece in like])


@given(st.data(), st.sampled_from(DTYPES))
def test_damage_raises_nothing_else_and_leaves_other_memory_alone(data: st.DataObject, dtype: str) -> None:
    rng = np.random.default_rng(data.draw(numbers))
    sizes = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=3))
    like = [numbers_of(rng, dtype, size, data.draw(densities)) for size in sizes]
    message = packed(like).copy()
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, message.size - 1))] = data.draw(st.integers(0, 255))
    message = message[: data.draw(st.integers(0, message.size) | st.just(message.size))]
    memory_of_all = np.full(sum(sizes) + 64, 7, dtype)
    back = np.split(memory_of_all[: sum(sizes)], np.cumsum(sizes)[:-1])
    with contextlib.suppress(CorruptMessage):
        unpack(message.data, back).expand(back)
    assert (memory_of_all[sum(sizes) :] == 7).all()


@given(st.data())
def test_every_changed_byte_of_a_message_with_a_checksum_is_noticed(data: st.DataObject) -> None:
    header = Header("all_reduce", 2, 4, 0, 1, 0, 7, 5, b"g:f4:100:sum")
    message = bytearray(b"".join(encode(header, [one_block()[1].data], checksum=True, codec=SPARSE)))
    assert decode(message).codec == SPARSE
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CorruptMessage, MismatchedMessage)):
        decode(message)


def test_another_codec_is_refused() -> None:
    message = bytearray(b"".join(encode(Header("barrier", 0, 2, 0, 1, 0, 0, 0, b""), [], checksum=False)))
    message[6] = 2
    with pytest.raises(MismatchedMessage, match=r"format 1\.2"):
        decode(message)


# --- memory ---------------------------------------------------------------------------------------------------


def test_memory_is_used_again() -> None:
    """A round of 4 MB, sent, folded and taken: it may need what one block takes, but no 4 MB."""
    x = {"g": np.zeros(1 << 20, np.float32)}
    x["g"][::50] = 1
    layout, workspace = Layout(x, "sum", aggregators=1, chunk_bytes=1 << 21), Workspace()
    header = Header("all_reduce", 0, 2, 0, 2, 0, 0, 0, layout.schema)
    arrays = InPlace(layout, flatten(x), workspace)
    values = []

    def round_of(chunk: int) -> None:
        parts, codec = arrays.payload(chunk)
        assert codec == SPARSE
        values.append(b"".join(encode(header, parts, checksum=False, codec=codec)))
        arrays.stored(chunk)
        total = arrays.fold(chunk)
        for _ in range(3):
            total.add(arrays.pieces(chunk, decode(values[-1])))
        total.add(None)
        total.finish()
        arrays.take(chunk, decode(values[-1]))

    round_of(0)
    tracemalloc.start()
    try:
        round_of(1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_run_over_threads_sends_what_the_simulator_counts() -> None:
    rng = np.random.default_rng(1)
    ranks: list[Named] = [{"g": numbers_of(rng, "float32", 1 << 16, 0.01)} for _ in range(3)]
    counted = Count(memory())
    comms = engines(counted, 3, aggregators=2, chunk_bytes=1 << 16)
    xs = copies(ranks)

    def reduce(rank: int) -> None:
        for _ in range(3):
            comms[rank].all_reduce(xs[rank])

    def simulated(planner: Planner, x: Named) -> Requests:
        for _ in range(3):
            yield from planner.all_reduce(x).run(None)

    all_well(3, reduce)
    assert counted.counts.sent == run(ranks, simulated, aggregators=2, chunk_bytes=1 << 16).counts.sent
    assert the_bytes(xs) == the_bytes(ranks)
