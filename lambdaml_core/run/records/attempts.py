"""Generations and attempts: what workers write of themselves in the run's store, so that others can go on from there.

A *generation* is one start of all workers together; it rises when the messages of the last one cannot be gone on from.
An *attempt* is one process of a rank in a generation. Attempts never touch a number: they are in the names of these
records alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, TypedDict

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.spec import get_all_json, get_json, put_json
from lambdaml_core.storage import FullStorage

# --- keys, below the run's prefix ---------------------------------------------------------------------------


def generation_key(generation: int) -> str:
    """The key of a :class:`Generation`, from 1: generation 0 begins with the run."""
    return f"generations/{generation}.json"


def cancel_key(generation: int) -> str:
    """The key of the flag that ends all workers of a generation; its value says who and why."""
    return f"cancel/{generation}.json"


def run_end_key(generation: int) -> str:
    """The key of how a driver saw the run end."""
    return f"end/{generation}.json"


def claim_key(generation: int, rank: int, attempt: int) -> str:
    """The key of a :class:`Claim`."""
    return f"attempts/{generation}/{rank}/{attempt}"


def beat_key(generation: int, rank: int) -> str:
    """The key of a :class:`Beat`."""
    return f"beats/{generation}/{rank}.json"


def handover_key(generation: int, rank: int, attempt: int) -> str:
    """The key of a :class:`Handover`; the attempt is the one that leaves."""
    return f"handovers/{generation}/{rank}/{attempt}.json"


def error_key(generation: int, rank: int, attempt: int) -> str:
    """The key of an :class:`AttemptError`."""
    return f"errors/{generation}/{rank}/{attempt}.json"


def end_key(generation: int, rank: int) -> str:
    """The key of an :class:`End`."""
    return f"ends/{generation}/{rank}.json"


def left_key(generation: int, rank: int, attempt: int) -> str:
    """The key of a :class:`Left`."""
    return f"left/{generation}/{rank}/{attempt}.json"


# --- values -------------------------------------------------------------------------------------------------


class Base(TypedDict):
    """A complete checkpoint, by the generation that wrote it."""

    generation: int
    round: int


class Generation(TypedDict):
    """Why a generation was opened, and the checkpoint that all of its ranks start from; None = from the beginning."""

    reason: str
    base: Base | None
    time_s: float


class Claim(TypedDict):
    """An attempt has begun. Created once: whoever finds another's token is a duplicate, and ends.

    ``handle``: what :meth:`~lambdaml_core.provider.base.Launcher.handle` says. All claims together are the registry of
    the run's processes.
    """

    token: str
    handle: str
    time_s: float


class Totals(TypedDict):
    """What a rank has used up to now, all of its attempts taken together (of one that was killed, up to its last beat).

    ``attempts`` that have begun; ``successions``: how many ended by handing over; ``began_s``: unix time at which the
    first of them began its first round, None before; ``seconds`` by purpose; ``channel`` and ``store``: requests by
    class (of the gets, ``missed`` found nothing), bytes ``sent`` and ``received``; ``worker``: ``seconds`` of all
    processes from their starts on, ``launches`` of them, and ``log_bytes`` that they printed; ``checkpoints``:
    ``count`` and ``bytes`` written, ``seconds`` that training waited for them; ``fingerprints``: all different ones.
    """

    attempts: int
    successions: int
    began_s: float | None
    seconds: dict[str, float]
    channel: dict[str, int]
    store: dict[str, int]
    worker: dict[str, float]
    checkpoints: dict[str, float]
    fingerprints: list[dict[str, Any]]


class Beat(TypedDict):
    """A sign of life. ``(attempt, beat)`` rises; a lower one than seen before is that of an older attempt.

    ``sequence``: collectives begun (the number of the next one); ``round``: rounds done; ``waiting``: in a collective,
    for others; ``remaining_s``: until the process must end, None = without limit.
    """

    attempt: int
    beat: int
    sequence: int
    round: int
    waiting: bool
    remaining_s: float | None
    time_s: float
    totals: Totals


class Handover(TypedDict):
    """An attempt has left because its time is up, and attempt + 1 has been, or is being, launched.

    ``round``: rounds done; ``progress``: it got further than the attempt before it, or had to wait for others.
    """

    round: int
    progress: bool
    time_s: float


class AttemptError(TypedDict):
    """An attempt has ended by an error. ``again``: another attempt may do better."""

    code: str
    message: str
    hint: str | None
    again: bool
    time_s: float


class End(TypedDict):
    """A rank has done all of its work. ``timeline`` and ``began_s`` (unix time of its start) are those of its last
    process."""

    attempt: int
    began_s: float
    timeline: dict[str, list[float]]
    totals: Totals


class Left(TypedDict):
    """What an attempt has left in a channel that cannot list, by the keys of its engine: nobody else could tell."""

    keys: list[str]


# --- what is done with them ---------------------------------------------------------------------------------


def claim(store: FullStorage, ref: WorkerRef, handle: str) -> bool:
    """Whether this process is the one that does this attempt, and not a duplicate invocation of it."""
    key = claim_key(ref.generation, ref.rank, ref.attempt)
    mine = Claim(token=secrets.token_hex(8), handle=handle, time_s=time.time())
    if put_json(store, key, mine, if_absent=True):
        return True
    return bool(get_json(store, key)["token"] == mine["token"])  # stored after all: the acknowledgement was lost


def left_keys(store: FullStorage) -> list[str]:
    """All keys that the attempts of a run have said they left in its channel.

    Args:
        store: prefixed by the run.
    """
    said = get_all_json(store, list(store.list("left/")))
    return list(dict.fromkeys(key for left in said.values() for key in left["keys"]))


def newest_generation(store: FullStorage) -> int:
    """The number of the newest generation; 0 where none was opened after the first."""
    generation = 0
    while get_all_json(store, [generation_key(generation + 1)]):
        generation += 1
    return generation


def open_generation(store: FullStorage, generation: int, reason: str, base: Base | None) -> bool:
    """Open a generation: workers of older ones leave. False if somebody else has opened this one."""
    record = Generation(reason=reason, base=base, time_s=time.time())
    return put_json(store, generation_key(generation), record, if_absent=True)


def base_of(store: FullStorage, generation: int) -> Base | None:
    """The checkpoint that a generation starts from; None = the beginning."""
    if generation == 0:
        return None
    record: Mapping[str, Any] = get_json(store, generation_key(generation))
    base: Base | None = record["base"]
    return base
