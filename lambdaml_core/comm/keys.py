"""Names of the values that a collective moves: computable by everybody, different for everything."""

from __future__ import annotations

import re
from typing import NamedTuple

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_KEY = re.compile(r"g(\d+)/(0|[a-z][a-z0-9_]*)-(\d+)/(\d+)\.(\d+)((?:\.[a-z0-9_]+)*)")


class Place(NamedTuple):
    """What a key says: which chunk its value belongs to, and whether it is the chunk's result."""

    generation: int
    sequence: int
    chunk: int
    owner: int
    is_result: bool


def make_key(generation: int, sequence: int, chunk: int, owner: int, *parts: str | int) -> str:
    """The key of one value of one chunk; injective in all its arguments (the run is a prefix put on by a layer).

    Everything that one rank waits for in one role lies in one folder, ``g<generation>/<first part><owner>/``, so that
    a storage with folders wakes only whom it concerns.

    Args:
        generation: rises at each resume or change of size; never an attempt, so that attempts share their values.
        sequence: number of the collective.
        chunk, owner: which chunk, and whose it is.
        parts: words of ``[a-z0-9_]`` starting with a letter, or numbers >= 0; none for the chunk's result.

    Raises:
        ValueError: a part is neither.
    """
    for part in parts:
        if not (isinstance(part, int) and part >= 0 if not isinstance(part, str) else _WORD.fullmatch(part)):
            raise ValueError(f"{part!r} cannot be part of a key")
    folder, rest = (parts[0], parts[1:]) if parts and isinstance(parts[0], str) else ("", parts)
    name = ".".join(map(str, (sequence, chunk, *rest)))
    return f"g{generation}/{folder or '0'}-{owner}/{name}"


def parse_key(key: str) -> Place | None:
    """What a key that :func:`make_key` made says; None of any other."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    generation, folder, owner, sequence, chunk, rest = match.groups()
    return Place(int(generation), int(sequence), int(chunk), int(owner), folder == "0" and not rest)


def result_key(generation: int, sequence: int, chunk: int, owner: int) -> str:
    """The key of a chunk's result."""
    return make_key(generation, sequence, chunk, owner)
