"""What commands print: one JSON object with ``--json``, else plain text and aligned tables."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

SCHEMA = 1
"""Version of what ``--json`` prints."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
"""Decorator: adds ``--json`` to a command, which gets it as ``as_json: bool``."""


def print_json(obj: Mapping[str, Any]) -> None:
    """Print the object with ``"schema"`` on standard output. Floats that JSON has no word for become null."""
    click.echo(json.dumps(_plain({**obj, "schema": SCHEMA}), allow_nan=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print an aligned table: numbers to the right with four significant digits, None and NaN as ``-``, header bold.

    Bold shows on a terminal only: click strips it from what is piped.

    Args:
        headers: one word or two per column.
        rows: cells of any type; each row as long as ``headers``.
    """
    cells = [list(row) for row in rows]
    right = [bool(cells) and all(_is_number(row[i]) or row[i] is None for row in cells) for i in range(len(headers))]
    text = [list(headers)] + [[_text(cell) for cell in row] for row in cells]
    width = [max(len(row[i]) for row in text) for i in range(len(headers))]
    for n, row in enumerate(text):
        line = "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, width, right, strict=True))
        click.secho(line.rstrip(), bold=True if n == 0 else None)


def capabilities_of(implementation: Any) -> dict[str, Any] | None:
    """The numbers of a class attribute ``caps``; None where there is none, or it depends on the URL."""
    caps = getattr(implementation, "caps", None)
    if not dataclasses.is_dataclass(caps) or isinstance(caps, type):
        return None
    return {f.name: getattr(caps, f.name) for f in dataclasses.fields(caps)}


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file that is to be at ``path`` whole or not at all: a hidden one beside it, which takes its
    place in the end.

    Raises:
        OSError: it cannot.
    """
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")  # however long the name of the file is
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _text(cell: Any) -> str:
    if cell is None or cell != cell:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
