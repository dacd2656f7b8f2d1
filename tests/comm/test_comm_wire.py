"""Keys are injective and legal; messages come back as they went, and every damage is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.aligned import ALIGNMENT
from lambdaml_core.comm.keys import make_key, result_key
from lambdaml_core.comm.wire import Header, check_call, decode, encode
from lambdaml_core.errors import CorruptMessage, MismatchedMessage
from lambdaml_core.storage import check_key

number = st.integers(0, 30) | st.integers(0, 1 << 40)
part = st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True) | number
names = st.tuples(number, number, number, number, st.lists(part, max_size=3).map(tuple))


def key_of(name: tuple[int, int, int, int, tuple[str | int, ...]]) -> str:
    return make_key(*name[:4], *name[4])


@given(names)
def test_keys_are_legal(name: tuple[int, int, int, int, tuple[str | int, ...]]) -> None:
    assert check_key(key_of(name)) == key_of(name)


@given(st.lists(names, unique=True, min_size=2, max_size=30))
def test_different_values_have_different_keys(several: list[tuple[int, int, int, int, tuple[str | int, ...]]]) -> None:
    assert len({key_of(name) for name in several}) == len(several)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 1, 23, 4, ()), (0, 12, 3, 4, ())),
        ((0, 1, 2, 3, ("in", 1, 2)), (0, 1, 2, 3, ("in", 12))),
        ((0, 1, 2, 3, (4,)), (0, 1, 2, 3, ("in", 4))),
        ((0, 1, 2, 3, ("a", "b")), (0, 1, 2, 3, ("b", "a"))),
        ((0, 1, 2, 3, ("a",)), (0, 1, 2, 3, ("a", "a"))),
        ((1, 11, 2, 3, ()), (11, 1, 2, 3, ())),
    ],
)
def test_keys_that_could_be_mistaken(one: Any, other: Any) -> None:
    assert key_of(one) != key_of(other)


@pytest.mark.parametrize("wrong", ["", "A", "a/b", "a.b", "a-b", "1", "../x", -1, "ä"])
def test_parts_that_would_make_keys_ambiguous_are_refused(wrong: str | int) -> None:
    with pytest.raises(ValueError, match="part of a key"):
        make_key(0, 0, 0, 0, wrong)


def test_a_result_is_the_key_without_parts() -> None:
    assert result_key(1, 2, 3, 4) == make_key(1, 2, 3, 4)


# --- messages

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
headers = st.builds(
    Header,
    operation=st.sampled_from(["all_reduce", "all_gather", "broadcast", "barrier"]),
    rank=u32,
    size=u32,
    chunk=u32,
    chunks=u32,
    generation=u32,
    sequence=u64,
    frontier=u64,
    schema=st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=150).map(str.encode),
)
payloads = st.lists(st.binary(max_size=200), max_size=4)


@given(headers, payloads, st.booleans())
def test_messages_come_back(header: Header, payload: list[bytes], checksum: bool) -> None:
    data = b"".join(encode(header, payload, checksum=checksum))
    message = decode(data)
    assert message.header == header
    assert message.payload == b"".join(payload)


@given(headers, payloads, st.booleans())
def test_payloads_are_viewed_where_they_are(header: Header, payload: list[bytes], checksum: bool) -> None:
    data = bytearray(b"".join(encode(header, payload, checksum=checksum)))
    message = decode(data)
    assert message.payload.obj is data
    assert (len(data) - message.payload.nbytes) % ALIGNMENT == 0
    if message.payload:
        message.payload[0] ^= 1
        assert data[len(data) - message.payload.nbytes] == message.payload[0]


def test_payloads_leave_without_a_copy() -> None:
    payload = memoryview(bytearray(1000))
    assert encode(a_header(), [payload], checksum=True)[1] is payload


@given(headers, payloads, st.data())
def test_every_changed_byte_is_noticed(header: Header, payload: list[bytes], data: st.DataObject) -> None:
    message = bytearray(b"".join(encode(header, payload, checksum=True)))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CorruptMessage, MismatchedMessage)):
        decode(message, key="k")


def test_every_changed_bit_of_one_message_is_noticed() -> None:
    message = bytearray(b"".join(encode(a_header(), [b"payload"], checksum=True)))
    for at in range(len(message)):
        for bit in range(8):
            message[at] ^= 1 << bit
            with pytest.raises((CorruptMessage, MismatchedMessage)):
                decode(message, key="k")
            message[at] ^= 1 << bit
    assert bytes(decode(message).payload) == b"payload"


@given(headers, payloads, st.booleans(), st.data())
def test_cut_and_extended_messages_are_noticed(
    header: Header, payload: list[bytes], checksum: bool, data: st.DataObject
) -> None:
    message = b"".join(encode(header, payload, checksum=checksum))
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(CorruptMessage, match="the-key"):
        decode(message[:cut], key="the-key")
    with pytest.raises(CorruptMessage, match="the-key"):
        decode(message + data.draw(st.binary(min_size=1, max_size=100)), key="the-key")


@given(st.binary(max_size=300))
def test_foreign_bytes_are_noticed(data: bytes) -> None:
    with pytest.raises(CorruptMessage, match="no message") as refused:
        decode(data, key="the-key")
    assert refused.value.hint is not None
    assert "prefix" in refused.value.hint


def test_another_version_is_told_apart_from_damage() -> None:
    message = bytearray(b"".join(encode(a_header(), [b"payload"], checksum=False)))
    message[4] += 1
    with pytest.raises(MismatchedMessage, match="format 2") as refused:
        decode(message)
    assert refused.value.hint == "run the same version of lambdaml on all workers"


@pytest.mark.parametrize(
    "other",
    [
        {"operation": "barrier"},
        {"size": 5},
        {"chunk": 2},
        {"chunks": 9},
        {"generation": 1},
        {"sequence": 8},
        {"rank": 3},
    ],
)
def test_messages_of_another_call_are_refused(other: dict[str, Any]) -> None:
    header = a_header()
    mine = ("all_reduce", 4, 0, 1, 0, 7)
    check_call(header, mine, 2)
    check_call(header, mine, None)
    with pytest.raises(MismatchedMessage, match="all_reduce number 7") as refused:
        check_call(header._replace(**other), mine, 2)
    assert f"{header._replace(**other).operation} number" in str(refused.value)


def a_header() -> Header:
    return Header("all_reduce", 2, 4, 0, 1, 0, 7, 5, b"g:f4:3:sum")
