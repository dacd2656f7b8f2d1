"""What distributions say that they need, held against what is installed; without `packaging`, which may be absent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;()@]*)\)?\s*(?:;\s*(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*v?([0-9][^,\s]*)")
_RELEASE = re.compile(r"v?(?:\d+!)?(\d+(?:\.\d+)*)")


class Requirement(NamedTuple):
    """One requirement of a distribution.

    Attributes:
        bounds: the versions that will do, as written: ``>=2,<3``; may be empty.
        extra: the extra that it belongs to; empty = always needed.
    """

    name: str
    bounds: str
    extra: str

    def __str__(self) -> str:
        return f"{self.name}{self.bounds}"

    def installed(self) -> str | None:
        """The version that is installed; None = none."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    def allows(self, version: str) -> bool:
        """Whether that version will do."""
        return within(version, self.bounds)


def requirements(distribution: metadata.Distribution) -> Iterator[Requirement]:
    """Those of a distribution; without those that are for some Pythons or systems only."""
    for text in distribution.requires or ():
        match = _REQUIREMENT.fullmatch(text)
        extra = _EXTRA.fullmatch(match[3]) if match and match[3] else None
        if match and (extra or not match[3]):
            yield Requirement(match[1], "".join(match[2].split()), extra[1] if extra else "")


def within(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as ``>=1.26,<3``; a pre-release counts as the release."""
    return all(_holds(version, operator, bound) for operator, bound in _BOUND.findall(bounds))


def _holds(version: str, operator: str, bound: str) -> bool:
    limit = _release(bound)
    if bound.endswith(".*"):
        same = _padded(_release(version), len(limit))[: len(limit)] == limit
        return same == (operator == "==")
    width = max(len(limit), len(_release(version)))
    ours, theirs = _padded(_release(version), width), _padded(limit, width)
    if operator == "~=":
        return ours >= theirs and ours[: len(limit) - 1] == limit[:-1]
    results = {">=": ours >= theirs, "<=": ours <= theirs, ">": ours > theirs, "<": ours < theirs}
    return results.get(operator, (ours == theirs) == (operator == "=="))


def _release(version: str) -> tuple[int, ...]:
    match = _RELEASE.match(version)
    return tuple(map(int, match[1].split("."))) if match else ()


def _padded(release: tuple[int, ...], width: int) -> tuple[int, ...]:
    return release + (0,) * (width - len(release))
