"""What a job would take on rented machines instead of functions, by the model of the LambdaML paper.

Jiang et al., SIGMOD 2021, section 5.3: w machines that exchange by a ring,

    t(w) = start(w) + (s / w) / B_S3 + R (2w - 2) ((m / w) / B_n + L_n)

with s bytes of data, m of a message, R rounds, and bandwidth and latency of a machine's network. Computing is left out:
it takes both sides about as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from lambdaml_core.provider.base import Work


class Machine(NamedTuple):
    """A machine of EC2.

    Attributes:
        usd_per_h: on demand with Linux in us-east-1 (https://aws.amazon.com/ec2/pricing/on-demand/, November 2026).
        bytes_per_s, latency_s: of its network, as the paper's table 6 has measured them.
    """

    usd_per_h: float
    bytes_per_s: float
    latency_s: float


MACHINES: Mapping[str, Machine] = {
    "t2.medium": Machine(0.0464, 120e6, 0.5e-3),
    "c5.large": Machine(0.085, 225e6, 0.15e-3),
}
"""Those of the paper, by name."""

_START_S = {10: 132.0, 50: 160.0, 100: 292.0, 200: 606.0}  # of so many machines together, measured by the paper
_S3_BYTES_PER_S = 65e6
_LEAST_CHARGED_S = 60.0


def machines(work: Work) -> Mapping[str, Mapping[str, Any]]:
    """As :meth:`~lambdaml_core.provider.base.SupportsEstimates.estimates`; nothing while the rounds are not known."""
    return {} if work.rounds is None else {f"EC2 {name}": _estimate(name, work, work.rounds) for name in MACHINES}


def start_s(workers: int) -> float:
    """Seconds until so many machines run, between what was measured on straight lines; as 10 below, and beyond 200 by
    the last line."""
    points = list(_START_S.items())
    if workers <= points[0][0]:
        return points[0][1]
    (w0, t0), (w1, t1) = next(((a, b) for a, b in pairwise(points) if workers <= b[0]), (points[-2], points[-1]))
    return t0 + (t1 - t0) * (workers - w0) / (w1 - w0)


def round_s(machine: Machine, workers: int, message_bytes: int) -> float:
    """Seconds of one all-reduce by a ring."""
    return (2 * workers - 2) * (message_bytes / workers / machine.bytes_per_s + machine.latency_s)


def _estimate(name: str, work: Work, rounds: int) -> Mapping[str, Any]:
    machine = MACHINES[name]
    starting = start_s(work.workers)
    loading = work.data_bytes / work.workers / _S3_BYTES_PER_S
    exchanging = rounds * round_s(machine, work.workers, work.message_bytes)
    seconds = starting + loading + exchanging
    return {
        "seconds": seconds,
        "usd": work.workers * max(_LEAST_CHARGED_S, seconds) * machine.usd_per_h / 3600,
        "said": f"{work.workers} in us-east-1 by the model of the LambdaML paper: start {starting:.4g} s, "
        f"loading {loading:.3g} s, exchange {exchanging:.3g} s; computing comes on top",
    }
