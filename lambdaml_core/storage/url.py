"""Storage URLs: ``scheme://user:password@host:port/path?option=value``. They never print a password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from lambdaml_core.errors import URLError

_ENV = re.compile(r"(\{env:[A-Za-z_][A-Za-z0-9_]*\})")
_ODD = "surrogateescape"  # as Python has names of files that are no UTF-8
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
        secrets: what :meth:`resolved` read from the environment; never printed either.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> StorageURL:
        """Parse; ``{env:NAME}`` stays as it is until :meth:`resolved`.

        Raises:
            URLError: not a URL, an option given twice, a fragment, or a port that is no number. It never shows the
                password, wherever a mistake has put it.
        """
        known = _SCHEME.match(text)
        if known is None:
            shown = "***" + text[text.rindex("@") :] if "@" in text else text
            raise URLError(f"{shown!r} is not a storage URL", hint="write it as scheme://..., such as file:///tmp/runs")
        try:
            parts = urlsplit(_ENV.sub(lambda name: quote(name[0], safe=""), text))
            port = parts.port
        except ValueError:
            # the cause would show what stands where the port should: the password, if its host was forgotten
            raise URLError(
                f"the server of this {known[0]} URL cannot be read",
                hint="write it as scheme://user:password@host:port/path, other characters as %XX",
            ) from None
        if parts.fragment:
            raise URLError(f"this {known[0]} URL has a #", hint="write # as %23")
        pairs = parse_qsl(parts.query, keep_blank_values=True, errors=_ODD)
        query = dict(pairs)
        if len(query) != len(pairs):
            raise URLError(f"this {known[0]} URL gives an option twice: {', '.join(query)}")
        host = parts.netloc.rpartition("@")[2]
        if not host.endswith("]"):  # [...] is an IPv6 address, whose colons are its own
            host = host.partition("]:")[0] + "]" if "]:" in host else host.partition(":")[0]
        return cls(
            parts.scheme,
            unquote(host, errors=_ODD),
            port,
            unquote(parts.username or "", errors=_ODD),
            unquote(parts.password or "", errors=_ODD),
            unquote(parts.path, errors=_ODD),
            query,
        )

    def resolved(self) -> StorageURL:
        """With every ``{env:NAME}`` replaced from the environment of this process.

        Raises:
            URLError: a variable is not set.
        """
        found: set[str] = set()
        return StorageURL(
            self.scheme,
            from_environment(self.host, found),
            self.port,
            from_environment(self.user, found),
            from_environment(self.password, found),
            from_environment(self.path, found),
            {k: from_environment(v, found) for k, v in self.query.items()},
            self.secrets | found,
        )

    def layer(self) -> str:
        """The name of the layer around another storage, in ``layer+scheme://``; empty where there is none.

        A storage may have a scheme with a plus of its own: the registry knows it.
        """
        name, plus, _ = self.scheme.partition("+")
        return name if plus else ""

    def inner(self) -> StorageURL:
        """Of a layer's URL, that of the storage within: without ``layer+``, and without options named ``layer_...``."""
        name = self.layer()
        query = {k: v for k, v in self.query.items() if not k.startswith(f"{name}_")}
        return replace(self, scheme=self.scheme.removeprefix(f"{name}+"), query=query)

    def text(self) -> str:
        """The URL with its password, for a job specification: put secrets there as ``{env:NAME}`` only."""
        return self._format(self.password, frozenset())

    def __str__(self) -> str:
        """The URL for people: a password, and whatever came from the environment, shows as ``***``."""
        return self._format("***" if self.password else "", self.secrets)

    def __repr__(self) -> str:
        return f"StorageURL({str(self)!r})"

    def _format(self, password: str, secrets: frozenset[str]) -> str:
        def shown(text: str, safe: str = "") -> str:
            for secret in secrets:
                text = text.replace(secret, "***")
            return _quote(text, safe)

        login = shown(self.user) + (f":{_quote(password)}" if password else "")
        at = f"{login}@" if login else ""
        host = self.host if re.fullmatch(r"\[[0-9a-fA-F:.]+\]", self.host) else shown(self.host)
        port = "" if self.port is None else f":{self.port}"
        query = "&".join(f"{shown(k, '/')}={shown(v, '/')}" for k, v in self.query.items())
        return f"{self.scheme}://{at}{host}{port}{shown(self.path, '/')}" + (f"?{query}" if query else "")


def _quote(text: str, safe: str = "") -> str:
    """Percent-encoded, all but ``{env:NAME}``."""
    return "".join(
        part if _ENV.fullmatch(part) else quote(part, safe=f"~,*{safe}", errors=_ODD) for part in _ENV.split(text)
    )


def from_environment(text: str, found: set[str]) -> str:
    """``text`` with every ``{env:NAME}`` in it replaced from the environment of this process.

    Args:
        found: what was read is added to it.

    Raises:
        URLError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[0][len("{env:") : -1]
        try:
            secret = os.environ[name]
        except KeyError:
            raise URLError(
                f"the environment variable {name} is not set", hint=f"set {name} where the workers run"
            ) from None
        found.update({secret} - {""})
        return secret

    return _ENV.sub(value, text)
