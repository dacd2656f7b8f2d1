"""What the workers of a run have told of themselves: their ends, or their last signs of life."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lambdaml_core.run.records.attempts import beat_key, claim_key, end_key, error_key
from lambdaml_core.run.spec import get_all_json
from lambdaml_core.storage import FullStorage

Place = Literal["store", "channel"]
Payee = Literal[Place, "worker"]
"""What a run is charged for: its storages by what is asked of them, its workers by the time that they are there."""


class Rank(NamedTuple):
    """One worker.

    Attributes:
        end: :class:`~lambdaml_core.run.records.attempts.End` in the newest generation; None before.
        beat: :class:`~lambdaml_core.run.records.attempts.Beat` in the newest generation; None before the first.
        totals: :class:`~lambdaml_core.run.records.attempts.Totals`: at the end, or when it was last heard of, be it in
            an older generation; None before the first sign of life.
    """

    rank: int
    end: Mapping[str, Any] | None
    beat: Mapping[str, Any] | None
    totals: Mapping[str, Any] | None

    @property
    def restarts(self) -> int:
        """Times that a process took the place of one that had not handed over."""
        return max(0, self.totals["attempts"] - 1 - self.totals["successions"]) if self.totals else 0


def read_ranks(store: FullStorage, workers: int, generation: int) -> list[Rank]:
    """All workers of a run, by rank.

    Args:
        store: prefixed by the run.
        generation: the newest.
    """
    newest = _signs(store, generation, range(workers))
    totals = {rank: told["totals"] for rank, signs in newest.items() if (told := signs[0] or signs[1])}
    for g in range(generation - 1, -1, -1):  # those not yet heard of in a new generation
        missing = [rank for rank in range(workers) if rank not in totals]
        if not missing:
            break
        older = _signs(store, g, missing)
        totals |= {rank: told["totals"] for rank, signs in older.items() if (told := signs[0] or signs[1])}
    return [Rank(rank, *newest[rank], totals.get(rank)) for rank in range(workers)]


def read_errors(store: FullStorage, generation: int) -> dict[int, dict[str, Any]]:
    """By rank, the error of its newest attempt in a generation, if that ended by one."""
    errors = _newest(store.list(f"errors/{generation}/"))
    claims = newest_claims(store, generation)
    last = {rank: attempt for rank, attempt in errors.items() if attempt >= claims.get(rank, 0)}
    return by_rank(store, {rank: error_key(generation, rank, attempt) for rank, attempt in last.items()})


def read_processes(store: FullStorage, generation: int) -> dict[int, tuple[int, str]]:
    """By rank, the newest attempt that has begun in a generation, and its handle."""
    attempts = newest_claims(store, generation)
    claims = by_rank(store, {rank: claim_key(generation, rank, n) for rank, n in attempts.items()})
    return {rank: (attempts[rank], claim["handle"]) for rank, claim in claims.items()}


def by_rank(store: FullStorage, keys: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """What is under the key of each rank, where anything is."""
    found = get_all_json(store, list(keys.values()))
    return {rank: found[key] for rank, key in keys.items() if key in found}


def newest_claims(store: FullStorage, generation: int) -> dict[int, int]:
    """By rank, the number of the newest attempt that has begun in a generation."""
    return _newest(store.list(f"attempts/{generation}/"))


def usd(counts: Mapping[str, Any], prices: Mapping[str, Mapping[str, float]]) -> float:
    """Dollars for a worker: for its requests, for their bytes where these are charged too, and for itself.

    Args:
        counts: ``store`` and ``channel``: requests by class, bytes ``sent`` and ``received``; ``worker``: ``seconds``,
            ``launches`` and ``log_bytes``.
        prices: the same: dollars of one; what is left out costs nothing.
    """
    return math.fsum(counts[place][name] * each for place, by in prices.items() for name, each in by.items())


def _signs(
    store: FullStorage, generation: int, ranks: Sequence[int]
) -> dict[int, tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """End and beat of each rank in a generation."""
    keys = [key(generation, rank) for key in (end_key, beat_key) for rank in ranks]
    found = get_all_json(store, keys)
    return {rank: (found.get(end_key(generation, rank)), found.get(beat_key(generation, rank))) for rank in ranks}


def _newest(keys: Iterable[str]) -> dict[int, int]:
    """By rank, the highest attempt of keys such as ``word/generation/rank/attempt`` with or without a suffix."""
    newest: dict[int, int] = {}
    for key in keys:
        rank, attempt = key.removesuffix(".json").split("/")[2:]
        newest[int(rank)] = max(newest.get(int(rank), 0), int(attempt))
    return newest
