"""What requests cost, and how :func:`usd` bounds it from above.

On-demand tables of the standard class in us-east-1, as they are since November 2024, looked up in November 2026:
https://aws.amazon.com/dynamodb/pricing/on-demand/. Most other regions cost more.
"""

from __future__ import annotations

from collections.abc import Mapping

USD_PER_WRITE_UNIT = 0.625e-6
"""For each started kilobyte (1,024 bytes) of an item that is put, replaced or deleted."""

USD_PER_READ_UNIT = 0.125e-6
"""For each started 4,096 bytes of an item, or where there is none, read consistently."""

WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 4096


def usd(overhead_bytes: int, shards: int) -> Mapping[str, float]:
    """Prices by request and by byte of values, as ``StorageCaps.usd`` has them.

    An item of n bytes costs ceil(n / unit) units, which is less than 1 + n / unit; n is the value and at most
    ``overhead_bytes``. So a put costs at most 1 + overhead / 1,024 units, and 1 / 1,024 for each byte; a get likewise,
    in units of 4,096 bytes. That is above the true price by less than one unit, and by what a key falls short of the
    longest.

    A delete costs as many units as the put of what it removes: that of the bytes is in ``sent``, which is twice the
    price of writing them, since bytes that were sent are deleted once at most. Where they stay, or expire (which is
    free), ``sent`` is up to twice the true price. A put that replaces a larger value costs what that one would, and a
    create that finds one likewise; collectives do neither.

    A listing costs at least one unit for each shard. The sizes of the values listed come on top, and no price by
    request can tell them: listing is no part of a round.

    Args:
        overhead_bytes: of an item, beside its value, at most.
        shards: queries of one listing.
    """
    per_byte_written = USD_PER_WRITE_UNIT / WRITE_UNIT_BYTES
    per_byte_read = USD_PER_READ_UNIT / READ_UNIT_BYTES
    write = USD_PER_WRITE_UNIT + overhead_bytes * per_byte_written
    return {
        "put": write,
        "delete": write,
        "get": USD_PER_READ_UNIT + overhead_bytes * per_byte_read,
        "list": USD_PER_READ_UNIT * shards,
        "sent": 2 * per_byte_written,
        "received": per_byte_read,
    }
