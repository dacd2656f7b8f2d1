"""The wire format: a header, and a raw little-endian payload at an offset that is a multiple of 64, viewed in place.

A header says what call the message belongs to, so that ranks that are not in the same call fail by type instead of
adding numbers that do not belong together. Layout, little-endian::

    magic "LMLM", version u8, operation u8, codec u8 (0 = raw, 1 = sparse), flags u8 (1 = checksum),
    rank u32, size u32, chunk u32, chunks u32, generation u32, schema bytes u32,
    sequence u64, frontier u64, payload bytes u64, checksum u64 (XXH3-64 of all else),
    schema (ASCII), zeros up to a multiple of 64, payload
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from lambdaml_core.aligned import aligned_size
from lambdaml_core.errors import CorruptMessage, MismatchedMessage
from lambdaml_core.storage.base import Buffer, Parts

MAGIC = b"LMLM"
VERSION = 1
RAW, SPARSE = 0, 1
"""The ``codec``: the payload is all bytes of the arrays, or what :mod:`~lambdaml_core.comm.sparse` makes of them."""

EVERYBODY = 0xFFFFFFFF
"""The ``rank`` of a folded result: it speaks for all."""

_HEADER = struct.Struct("<4sBBBB6I4Q")
_CHECKSUM_AT = _HEADER.size - 8
_HAS_CHECKSUM = 1
_OPERATIONS = ("all_reduce", "all_gather", "broadcast", "barrier", "exchange", "last_exchange")


class Header(NamedTuple):
    """What a message says of itself.

    Attributes:
        operation: name of the collective.
        rank: whose value it is, or EVERYBODY.
        size: number of ranks.
        chunk, chunks: which part of the message.
        generation, sequence: which call.
        frontier: collectives with a smaller sequence number are done with, as far as ``rank`` is concerned.
        schema: names, dtypes, shapes and operations of the whole message.
    """

    operation: str
    rank: int
    size: int
    chunk: int
    chunks: int
    generation: int
    sequence: int
    frontier: int
    schema: bytes


@dataclass(frozen=True)
class Message:
    """A decoded message; ``payload`` is a view of the buffer it came in, ``codec`` RAW or SPARSE."""

    header: Header
    payload: memoryview
    codec: int


def message_overhead(schema: bytes) -> int:
    """Bytes of a message before its payload."""
    return aligned_size(_HEADER.size + len(schema))


def encode(header: Header, payload: Parts, *, checksum: bool, codec: int = RAW) -> list[Buffer]:
    """The message as a gather list; the payload is not copied.

    Args:
        checksum: add one over header and payload, for channels where bytes can change on the way.
    """
    size = sum(memoryview(part).nbytes for part in payload)
    head = bytearray(message_overhead(header.schema))
    _HEADER.pack_into(
        head,
        0,
        MAGIC,
        VERSION,
        _OPERATIONS.index(header.operation),
        codec,
        _HAS_CHECKSUM if checksum else 0,
        header.rank,
        header.size,
        header.chunk,
        header.chunks,
        header.generation,
        len(header.schema),
        header.sequence,
        header.frontier,
        size,
        0,
    )
    head[_HEADER.size : _HEADER.size + len(header.schema)] = header.schema
    if checksum:
        struct.pack_into("<Q", head, _CHECKSUM_AT, _digest(head, payload))
    return [head, *payload]


def decode(data: Buffer, *, key: str = "") -> Message:
    """Read a message; the payload is viewed in place.

    Raises:
        CorruptMessage: truncated, not a message, or its checksum is wrong.
        MismatchedMessage: written by another version of the format.
    """
    view = memoryview(data).cast("B")
    if view.nbytes < _HEADER.size or view[:4] != MAGIC:
        raise CorruptMessage(f"the value {key} is no message of a collective", hint=_FOREIGN)
    (_, version, operation, codec, flags, rank, size, chunk, chunks, generation, schema_bytes, *rest) = (
        _HEADER.unpack_from(view)
    )
    sequence, frontier, payload_bytes, checksum = rest
    if version != VERSION or codec not in (RAW, SPARSE) or operation >= len(_OPERATIONS):
        raise MismatchedMessage(
            f"the message {key} has format {version}.{codec}, this is {VERSION}.0",
            hint="run the same version of lambdaml on all workers",
        )
    at = aligned_size(_HEADER.size + schema_bytes)
    if view.nbytes != at + payload_bytes:
        raise CorruptMessage(
            f"the message {key} has {view.nbytes} bytes instead of {at + payload_bytes}", hint=_FOREIGN
        )
    payload = view[at:]
    if flags == _HAS_CHECKSUM:
        head = bytearray(view[:at])
        head[_CHECKSUM_AT : _CHECKSUM_AT + 8] = bytes(8)
        if _digest(head, [payload]) != checksum:
            raise CorruptMessage(f"the message {key} has a wrong checksum", hint="check the network and the channel")
    elif flags or checksum:
        raise CorruptMessage(f"the message {key} has flags {flags} and a checksum {checksum}", hint=_FOREIGN)
    schema = bytes(view[_HEADER.size : _HEADER.size + schema_bytes])
    header = Header(_OPERATIONS[operation], rank, size, chunk, chunks, generation, sequence, frontier, schema)
    return Message(header, payload, codec)


def check_call(theirs: Header, mine: tuple[str, int, int, int, int, int], rank: int | None) -> None:
    """Check that a message belongs to this rank's call.

    Args:
        mine: operation, size, chunk, chunks, generation, sequence.
        rank: whose message it should be; None = whoever's.

    Raises:
        MismatchedMessage: names both calls.
    """
    call = (theirs.operation, theirs.size, theirs.chunk, theirs.chunks, theirs.generation, theirs.sequence)
    if call != mine or rank not in (None, theirs.rank):
        raise MismatchedMessage(
            f"rank {theirs.rank} of {theirs.size} is in {theirs.operation} number {theirs.sequence} (chunk "
            f"{theirs.chunk} of {theirs.chunks}), this rank in {mine[0]} number {mine[5]} "
            f"(chunk {mine[2]} of {mine[3]})",
            hint="all ranks must make the same calls in the same order with the same settings",
        )


_FOREIGN = "another program may be using this channel; choose another prefix"


def _digest(head: Buffer, payload: Parts) -> int:
    import xxhash  # needed on network channels only

    digest = xxhash.xxh3_64(bytes(head))
    for part in payload:
        digest.update(part)
    return digest.intdigest()
