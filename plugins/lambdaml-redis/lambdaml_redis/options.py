"""Options of ``redis://``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.options import option


@dataclass(frozen=True)
class RedisOptions:
    """Options of ``redis://``, in the query of the URL."""

    db: int | None = option(None, help="number of the database, 0 by default; also the URL's path with TCP", minimum=0)
    prefix: str = option("lambdaml", help="first word of all keys on the server, for its access rules")
    expire_s: float = option(86_400.0, help="life of a value that is given none", unit="s", above=0)
    connect_timeout_s: float = option(5.0, help="how long a connection may take to come about", unit="s", above=0)
    timeout_s: float = option(15.0, help="how long the server may be silent before it is given up", unit="s", above=0)
    tls_ca: str = option("", help="file of the certificates that a server's must be signed by; else the system's")
    tls_cert: str = option("", help="file of this client's own certificate, where the server wants one")
    tls_key: str = option("", help="file of the private key of tls_cert")
