"""Options of ``dynamodb://``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class DynamoDBOptions:
    """Options of ``dynamodb://``, in the query of the URL."""

    region: str | None = option(None, help="region of the table; left out, as the AWS configuration says")
    endpoint_url: str | None = option(None, help="http(s)://host:port of what answers in place of AWS")
    profile: str | None = option(None, help="profile of the AWS configuration whose credentials are used")
    connections: int = option(8, help="requests that one client makes at once", minimum=1, maximum=64)
    timeout_s: float = option(10.0, help="how long an answer may take before a request has failed", unit="s", above=0)
    expire_s: float | None = option(
        None, help="lifetime of values that are put without one; left out, they stay for good", unit="s", above=0
    )
