"""Options of ``memcached://``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class MemcachedOptions:
    """Options of ``memcached://``, in the query of the URL."""

    item_bytes: int = option(
        1 << 20, help="largest item that the server takes, as its -I says", unit="bytes", minimum=4096
    )
    expire_s: float = option(86_400.0, help="how long values stay that are put without a time", unit="s", above=0)
    timeout_s: float = option(10.0, help="how long the server may be silent before a request fails", unit="s", above=0)
    tls: bool = option(False, help="encrypt, and see that the server is who it says")
    tls_ca: str = option("", help="file with the certificates to trust with tls; empty = those of the system")
