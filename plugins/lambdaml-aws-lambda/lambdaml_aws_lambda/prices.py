"""What functions cost, in US dollars: AWS's price lists as of November 2026.

https://aws.amazon.com/lambda/pricing/ for duration, requests and room in ``/tmp``,
https://aws.amazon.com/cloudwatch/pricing/ for what functions print. The first and dearest tier of each; nothing is
taken off for what an account has free. On top come keeping the logs by the month, bytes that leave the region, KMS and
whatever a VPC needs, such as a NAT gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_GB_MB = 1024
_FREE_EPHEMERAL_MB = 512


class Prices(NamedTuple):
    """Prices of a region.

    Attributes:
        region: whose they are.
        gb_s: a second of a function with 1,024 MB of memory, by architecture; loading the code before the handler is
            called counts, too.
        request: an invocation.
        ephemeral_gb_s: a second of 1,024 MB in ``/tmp`` above the 512 MB that cost nothing.
        log_byte: a byte that a function prints; a GB counts as 10^9 of them, which is never too little.
    """

    region: str
    gb_s: Mapping[str, float]
    request: float
    ephemeral_gb_s: float
    log_byte: float


_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
_REQUEST = 0.20 / 1e6
_EPHEMERAL_GB_S = 0.0000000309

DEFAULT_REGION = "us-east-1"
"""Whose prices count where a region's are not known. Some regions cost up to 40 % more."""

PRICES: Mapping[str, Prices] = {
    "eu-west-1": Prices("eu-west-1", _GB_S, _REQUEST, _EPHEMERAL_GB_S * 1.16, 0.57 / 1e9),
    "us-east-1": Prices("us-east-1", _GB_S, _REQUEST, _EPHEMERAL_GB_S, 0.50 / 1e9),
    "us-east-2": Prices("us-east-2", _GB_S, _REQUEST, _EPHEMERAL_GB_S, 0.50 / 1e9),
    "us-west-2": Prices("us-west-2", _GB_S, _REQUEST, _EPHEMERAL_GB_S, 0.50 / 1e9),
}
"""By region. Room in ``/tmp`` in eu-west-1 is an upper bound: 16 % above the United States, as in eu-west-2."""


def prices(region: str) -> Prices:
    """Those of a region; those of :data:`DEFAULT_REGION`, as ``region`` of them says, where they are not known."""
    return PRICES.get(region, PRICES[DEFAULT_REGION])


def usd_per_worker_s(region: str, *, memory_mb: int, ephemeral_mb: int, architecture: str) -> float:
    """A second of one function, in US dollars: memory, and room in ``/tmp`` above what is free."""
    found = prices(region)
    paid = max(0, ephemeral_mb - _FREE_EPHEMERAL_MB)
    return (memory_mb * found.gb_s[architecture] + paid * found.ephemeral_gb_s) / _GB_MB


def said(region: str) -> str:
    """One line for people: whose prices a plan counts with, and of when."""
    found = prices(region)
    if found.region == region:
        return f"of {region}, as of November 2026"
    return f"of {found.region}, as of November 2026: those of {region} are not known here, and may be 40 % above"
