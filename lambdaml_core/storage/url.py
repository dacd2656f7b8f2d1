"""Storage URLs: ``scheme://user:password@host:port/path?option=value``. They never print a password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from lambdaml_core.errors import URLError

_ENV = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")


@dataclass(frozen=True)
class StorageURL:
    """A parsed storage URL.

    Attributes:
        scheme: what chooses the plugin.
        host: bucket, table, server or name; may be empty.
        port: None = the service's own.
        user: may be empty.
        password: never printed; write ``{env:NAME}`` to have it read from the environment where it is used.
        path: the rest, with its leading slash; may be empty.
        query: options as text.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> StorageURL:
        """Parse; ``{env:NAME}`` stays as it is until :meth:`resolved`.

        Raises:
            URLError: not a URL, an option given twice, or a port that is no number.
        """
        if not _SCHEME.match(text):
            raise URLError(
                f"{_mask(text)!r} is not a storage URL", hint="write it as scheme://..., such as file:///tmp/runs"
            )
        try:
            parts = urlsplit(text.replace("{env:", "%7Benv:"))
            port = parts.port
        except ValueError as e:
            raise URLError(f"{_mask(text)!r} is not a storage URL: {e}") from e
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = dict(pairs)
        if len(query) != len(pairs):
            raise URLError(f"{_mask(text)!r} gives an option twice")
        host = unquote(parts.netloc.rpartition("@")[2])
        if port is not None:
            host = host.removesuffix(f":{port}")
        return cls(
            parts.scheme,
            host,
            port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            unquote(parts.path),
            query,
        )

    def resolved(self) -> StorageURL:
        """With every ``{env:NAME}`` replaced from the environment of this process.

        Raises:
            URLError: a variable is not set.
        """
        return StorageURL(
            self.scheme,
            _substitute(self.host),
            self.port,
            _substitute(self.user),
            _substitute(self.password),
            _substitute(self.path),
            {k: _substitute(v) for k, v in self.query.items()},
        )

    def text(self) -> str:
        """The URL with its password, for a job specification: put secrets there as ``{env:NAME}`` only."""
        return self._format(_quote(self.password))

    def __str__(self) -> str:
        """The URL for people: a password shows as ``***``."""
        return self._format("***" if self.password else "")

    def _format(self, password: str) -> str:
        login = _quote(self.user) + (f":{password}" if password else "")
        port = "" if self.port is None else f":{self.port}"
        query = "&".join(f"{_quote(k)}={_quote(v)}" for k, v in self.query.items())
        at = f"{login}@" if login else ""
        host = self.host if self.host.startswith("[") else _quote(self.host)
        return f"{self.scheme}://{at}{host}{port}{_quote(self.path)}" + (f"?{query}" if query else "")


def _quote(text: str) -> str:
    return quote(text, safe="/{}:~+,=") if _ENV.search(text) else quote(text, safe="/~+,")


def _mask(text: str) -> str:
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", text)


def _substitute(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise URLError(
                f"the environment variable {match[1]} is not set", hint=f"set {match[1]} where the workers run"
            ) from None

    return _ENV.sub(value, text)
