"""Numbers as people read them; None is a dash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lambdaml_core.cli.view import size

NOTHING = "-"


def figure(value: float | None) -> str:
    """Four significant digits."""
    return NOTHING if value is None else f"{value:.4g}"


def apart(values: Sequence[float]) -> list[str]:
    """Different numbers with so many digits, four at least, that they look different."""
    written = ([f"{value:.{digits}g}" for value in values] for digits in range(4, 18))
    return next(texts for texts in written if len(set(texts)) == len(set(values)))


def count(value: float | None) -> str:
    """A whole number, in groups of three digits; what is not whole keeps four significant ones."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def seconds(value: float | None) -> str:
    """Seconds, with milliseconds below a hundred."""
    if value is None:
        return NOTHING
    return f"{value:.3f} s" if value < 100 else f"{value:,.0f} s"


def dollars(value: float | None) -> str:
    """US dollars, to four significant digits."""
    return NOTHING if value is None else f"${value:.4g}"


def bytes_(value: float | None) -> str:
    """Bytes with a unit of 1000."""
    return NOTHING if value is None else size(round(value))


def setting(value: Any) -> str:
    """A value of a job: words as they are, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def moment(iso: str) -> str:
    """A time, in UTC."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def share(part: float, whole: float) -> str:
    """Percent."""
    return f"{100 * part / whole:.1f}%" if whole > 0 else NOTHING
