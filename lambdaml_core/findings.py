"""What ``lambdaml doctor`` finds, and how a plugin contributes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: a word or two: ``clock``, ``bucket policy``.
        state: ``ok``; ``warning``: works, but slower, dearer or less safely than it could; ``problem``: will not work.
        said: what was found, in one line, without secrets.
        remedy: the command or change that mends it; every warning and problem has one.
        values: measured figures by name and unit (``latency_s``, ``bytes_per_s``): JSON.
        fix: mends it, for ``doctor --fix``; None where a person has to. Idempotent.
    """

    what: str
    state: Literal["ok", "warning", "problem"]
    said: str
    remedy: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    fix: Callable[[], None] | None = None


@runtime_checkable
class SupportsChecks(Protocol):
    """A storage or provider that knows what can be wrong with it, beyond what is tried on every one.

    A method is all there is to it::

        class BucketStorage:
            def checks(self) -> Iterator[Finding]:
                days = self._client.lifetime_of_values()
                if days is not None and days < 7:
                    yield Finding(
                        what="lifecycle",
                        state="warning",
                        said=f"the bucket removes what is {days} days old, a run's checkpoints too",
                        remedy="exempt the prefix runs/ from the bucket's lifecycle rules",
                    )
                else:
                    yield Finding(what="lifecycle", state="ok", said="nothing is removed before its time")

    What is raised, takes too long, or lacks a remedy becomes a finding of its own, in which no secret shows.
    """

    def checks(self) -> Iterator[Finding]:
        """Look, and change nothing. What cannot be looked at is a finding too, not an error."""
