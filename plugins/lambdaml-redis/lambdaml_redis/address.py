"""Where a server is and who asks: of a URL and its options. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lambdaml_core.errors import URLError
from lambdaml_core.storage import StorageURL
from lambdaml_redis.options import RedisOptions

_PORT = 6379


@dataclass(frozen=True)
class Address:
    """A server of Redis.

    Attributes:
        shown: the URL for messages, without a password.
        socket: path of its unix socket; empty with TCP.
        host, port: with TCP.
        tls: whether the connection is encrypted.
        user, password: may be empty; never printed.
        db: number of the database.
    """

    shown: str
    socket: str
    host: str
    port: int
    tls: bool
    db: int
    login: dict[str, Any]

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @classmethod
    def of(cls, url: StorageURL, options: RedisOptions) -> Address:
        """Of a URL ``redis://user:password@host:port/db`` or ``redis+unix://user:password@/path/of.sock?db=1``.

        Raises:
            URLError: it names no server, or options that contradict each other.
        """
        unix, tls = url.scheme == "redis+unix", url.scheme == "rediss"
        if unix and (url.host or url.port or not url.path.strip("/")):
            raise URLError(f"{url} names no socket", hint="write it as redis+unix:///path/of/redis.sock")
        if not unix and not url.host:
            raise URLError(f"{url} names no host", hint="write it as redis://localhost:6379/0")
        if not tls and (options.tls_ca or options.tls_cert or options.tls_key):
            raise URLError(f"{url} has certificates and no encryption", hint="write it as rediss://")
        if bool(options.tls_cert) != bool(options.tls_key):
            raise URLError(f"{url} has only one of tls_cert and tls_key", hint="give both")
        login = {name: word for name, word in (("username", url.user), ("password", url.password)) if word}
        return cls(
            shown=str(url).partition("?")[0],
            socket=url.path if unix else "",
            host=url.host.strip("[]"),
            port=_PORT if url.port is None else url.port,
            tls=tls,
            db=_database(url, options, in_path=not unix),
            login=login,
        )


def _database(url: StorageURL, options: RedisOptions, *, in_path: bool) -> int:
    word = url.path.strip("/") if in_path else ""
    if word and not (word.isascii() and word.isdigit()):
        raise URLError(f"{url}: {word!r} is no number of a database", hint="write it as redis://localhost:6379/0")
    numbers = {int(word)} if word else set()
    if options.db is not None:
        numbers.add(options.db)
    if len(numbers) > 1:
        raise URLError(f"{url} names two databases", hint="leave the option db out")
    return numbers.pop() if numbers else 0
