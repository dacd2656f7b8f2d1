"""How many ranks fold, where a job leaves that to the driver: by what its channel takes and costs."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from lambdaml_core.comm.cost import Choice, Predicted, choose, predict
from lambdaml_core.comm.planner import chunk_length
from lambdaml_core.run.job import AUTO, Job
from lambdaml_core.run.spec import Place
from lambdaml_core.run.trial import Trial, briefly, measure
from lambdaml_core.storage import build_storage
from lambdaml_core.storage.base import StorageCaps

RIDERS_BYTES = 128
"""What goes with the parameters or gradients in a round's message: totals and rank 0's decision, aligned."""


class Settled(NamedTuple):
    """How many ranks fold, and why so many; no reason where the job gives the number."""

    aggregators: int
    reason: str | None


class Channel(NamedTuple):
    """A channel as predictions need it.

    Attributes:
        caps: as its engines see them, with latency and bandwidth measured where they were.
        chunk_bytes: how long its engines cut chunks, which go by what is stated.
        measured: whether anything was.
    """

    caps: StorageCaps
    chunk_bytes: int
    measured: bool

    def predict(self, aggregators: int, *, size: int, nbytes: int) -> Predicted:
        """As :func:`~lambdaml_core.comm.cost.predict`; ``nbytes`` as in :meth:`choose`."""
        nbytes += RIDERS_BYTES
        return predict(self.caps, size=size, aggregators=aggregators, nbytes=nbytes, chunk_bytes=self.chunk_bytes)

    def choose(self, *, size: int, nbytes: int, usd_per_worker_s: float) -> Choice:
        """As :func:`~lambdaml_core.comm.cost.choose`.

        Args:
            nbytes: of parameters or gradients.
        """
        return choose(
            self.caps,
            size=size,
            nbytes=nbytes + RIDERS_BYTES,
            usd_per_worker_s=usd_per_worker_s,
            chunk_bytes=self.chunk_bytes,
        )


def look_at_channel(place: Place, *, message_bytes: int, measures: bool | None = None) -> Channel:
    """The figures of a channel.

    Args:
        message_bytes: measuring moves about so many bytes at once, at most.
        measures: whether to measure, which is I/O; None = where the channel does not state latency or bandwidth.

    Raises:
        StorageError: measuring failed.
    """
    with contextlib.closing(place.open()) as opened:
        caps = opened.caps
    chunk_bytes = chunk_length(caps)
    if measures or (measures is None and not (caps.latency_s and caps.bytes_per_s)):
        with contextlib.closing(briefly(build_storage(place.url, place.reference))) as storage:
            trial = Trial(storage, "measured")
            try:
                speed = measure(trial, most=message_bytes)
            finally:
                trial.clean()
        return Channel(speed.stated(caps, over=bool(measures)), chunk_bytes, measured=True)
    return Channel(caps, chunk_bytes, measured=False)


def settle(job: Job, channel: Place, message_bytes: int, usd_per_worker_s: float) -> Settled:
    """The number that the job gives, or the best.

    Raises:
        StorageError: as :func:`look_at_channel`.
    """
    if job.aggregators != AUTO:
        return Settled(int(job.aggregators), None)
    looked = look_at_channel(channel, message_bytes=message_bytes, measures=None if job.workers > 1 else False)
    choice = looked.choose(size=job.workers, nbytes=message_bytes, usd_per_worker_s=usd_per_worker_s)
    return Settled(choice.aggregators, choice.reason)
