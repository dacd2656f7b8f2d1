"""What requests to S3 cost, in US dollars: AWS's price list, https://aws.amazon.com/s3/pricing/, as of November 2026.

Storage itself, encryption by KMS, and bytes that leave their region come on top. DELETE is free. A put that creates
and finds a value there is charged as any other, and so is a get of what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping

_IRELAND = _OHIO = _OREGON = _VIRGINIA = (0.005 / 1000, 0.0004 / 1000)

STANDARD: Mapping[str, tuple[float, float]] = {
    "eu-central-1": (0.0054 / 1000, 0.00043 / 1000),
    "eu-west-1": _IRELAND,
    "us-east-1": _VIRGINIA,
    "us-east-2": _OHIO,
    "us-west-2": _OREGON,
}
"""S3 Standard, by region: one PUT, COPY, POST or LIST, and one GET."""

EXPRESS: Mapping[str, float] = {
    "put": 0.00113 / 1000,
    "get": 0.00003 / 1000,
    "list": 0.00113 / 1000,
    "sent": 0.0032 / 2**30,
    "received": 0.0006 / 2**30,
}
"""S3 Express One Zone in us-east-1, where each byte is charged too, by GB of 2^30 bytes."""


def usd(region: str | None, *, express: bool = False) -> Mapping[str, float]:
    """Prices as ``StorageCaps.usd`` has them.

    Args:
        region: None, or one that is not in :data:`STANDARD`, counts as us-east-1: elsewhere it may be up to twice as
            much.
        express: the bucket is a directory bucket.
    """
    if express:
        return dict(EXPRESS)
    put, get = STANDARD.get(region or "", _VIRGINIA)
    return {"put": put, "get": get, "list": put, "delete": 0.0}
