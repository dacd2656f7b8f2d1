"""What has become of a run, by what its driver and its workers have left in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lambdaml_core.errors import PluginError
from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Provider
from lambdaml_core.run.records.attempts import (
    beat_key,
    claim_key,
    end_key,
    handover_key,
    newest_generation,
    run_end_key,
)
from lambdaml_core.run.records.ranks import by_rank, newest_claims, read_errors
from lambdaml_core.run.spec import DRIVER, RESULT, Spec, get_all_json, reading
from lambdaml_core.storage import FullStorage

DRIVER_S = 15.0
"""A driver that has left no sign of life for so long is gone."""
SILENT_S = 60.0  # what a worker may take to begin, or to get through to its store


class State(NamedTuple):
    """A run at a moment.

    Attributes:
        status: as in a :class:`~lambdaml_core.run.records.records.RunRecord`.
        reason: why it is stalled, or how its driver said that it ended.
        generation: the newest.
        end, result: how a driver saw it end; what rank 0 has left at its end. Empty where there is none.
        driven: a driver is at work.
    """

    status: str
    reason: str | None
    generation: int
    end: Mapping[str, Any]
    result: Mapping[str, Any]
    driven: bool

    @property
    def over(self) -> bool:
        """Nothing happens any more. (A driver tidies up after the result.)"""
        return bool(self.end) or (bool(self.result) and not self.driven)


def driver_lives(driver: Mapping[str, Any] | None) -> bool:
    """Whether the driver that has left this sign of life (``driver.json``; None = there is none) goes on."""
    if driver is None or time.time() - driver["time_s"] > DRIVER_S:
        return False
    return processes.state_of(driver["handle"]) != "ended"


def read_state(store: FullStorage, spec: Spec) -> State:
    """What has become of a run.

    Args:
        store: prefixed by the run.

    Raises:
        RunError: its records are damaged.
    """
    with reading(spec.run):
        return _state(store, spec)


def _state(store: FullStorage, spec: Spec) -> State:
    generation = newest_generation(store)
    found = get_all_json(store, [run_end_key(generation), RESULT, DRIVER])
    end, result = found.get(run_end_key(generation), {}), found.get(RESULT, {})
    driven = not end and driver_lives(found.get(DRIVER))
    if end:
        status, reason = end["status"], end["stop_reason"]
    elif result:
        status, reason = "succeeded", None
    else:
        reason = None if driven else _need(store, spec, generation, found.get(DRIVER))
        status = "stalled" if reason else "running"
    return State(status, reason, generation, end, result, driven)


def _need(store: FullStorage, spec: Spec, generation: int, driver: Mapping[str, Any] | None) -> str | None:
    """Why a run without a driver needs one; None while its workers go on by themselves."""
    attempts = newest_claims(store, generation)
    claims = by_rank(store, {rank: claim_key(generation, rank, n) for rank, n in attempts.items()})
    words = _poll(spec, [claim["handle"] for claim in claims.values()])
    ranks = range(spec.workers)
    # looked up after the provider was asked: who has left in order has said so before
    ends = by_rank(store, {rank: end_key(generation, rank) for rank in ranks})
    handovers = by_rank(store, {rank: handover_key(generation, rank, n) for rank, n in attempts.items()})
    beats = by_rank(store, {rank: beat_key(generation, rank) for rank in ranks})
    errors = read_errors(store, generation)
    quiet: list[float] = []
    for rank in (rank for rank in ranks if rank not in ends):
        if rank in errors:
            return f"worker {rank}: {errors[rank]['message']}"
        claim, handover = claims.get(rank), handovers.get(rank)
        word, _, how = words.get(claim["handle"] if claim else "", "unknown").partition(": ")
        if word in ("failed", "succeeded") and handover is None:
            return f"worker {rank} has ended" + (f": {how}" if how else "")
        signs = [sign["time_s"] for sign in (driver, claim, beats.get(rank), handover) if sign is not None]
        quiet.append(time.time() - max(signs, default=0.0))
        if quiet[-1] > SILENT_S:
            return f"worker {rank} has not been heard of for a minute" if claim else f"worker {rank} has not begun"
    if len(quiet) == len(ranks) and min(quiet) > max(DRIVER_S, 3 * (spec.recovery.heartbeat_s or 0.0)):
        return f"no worker has been heard of for {min(quiet):.0f} s"
    return None


def _poll(spec: Spec, handles: Sequence[str]) -> Mapping[str, str]:
    """What the provider says of its processes, where it can be had here."""
    try:
        provider: Provider = spec.provider.build()
    except PluginError:
        return {}
    return provider.poll(handles)
