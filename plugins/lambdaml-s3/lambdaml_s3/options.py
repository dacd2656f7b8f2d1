"""Options of ``s3://``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class S3Options:
    """Options of ``s3://``, in the query of the URL."""

    endpoint_url: str | None = option(None, help="http(s)://host:port of what answers in place of AWS")
    region: str | None = option(None, help="region of the bucket; left out, as the AWS configuration says")
    profile: str | None = option(None, help="profile of the AWS configuration whose credentials are used")
    path_style: bool | None = option(
        None, help="name the bucket in the path and not in the host; left out: not on AWS, elsewhere yes"
    )
    anonymous: bool = option(False, help="sign nothing, for buckets that are open to everybody")
    parallel: int = option(16, help="requests that one client makes at once", minimum=1, maximum=256)
    part_bytes: int = option(
        8 << 20,
        help="larger values move in parts of this size, several at a time",
        unit="bytes",
        minimum=5 << 20,  # of S3's, but for the last part
        maximum=5 << 30,
    )
    timeout_s: float = option(60.0, help="how long one request may take before it has failed", unit="s", above=0)
    usd_put: float | None = option(None, help="price of a put; left out, AWS's, and elsewhere nothing", minimum=0)
    usd_get: float | None = option(None, help="price of a get; left out, AWS's, and elsewhere nothing", minimum=0)
    usd_list: float | None = option(None, help="price of a listing; left out, AWS's, and elsewhere nothing", minimum=0)
