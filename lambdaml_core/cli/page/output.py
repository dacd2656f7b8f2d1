"""Where a page goes."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from lambdaml_core.errors import UsageError


def write_page(out: str, page: bytes) -> None:
    """Write a page to a file, whole or not at all; ``-`` is standard output. A file that is there is replaced.

    Raises:
        UsageError: it cannot be written there.
    """
    if out == "-":
        sys.stdout.buffer.write(page)
        return
    path = Path(out).resolve()
    try:
        if path.exists() and not path.is_file():  # a device or a pipe takes it as it comes; a directory refuses
            path.write_bytes(page)
        else:
            _replace(path, page)
    except OSError as e:
        raise UsageError(f"{out} cannot be written: {e.strerror}", hint="give another --out FILE.html") from e


def _replace(path: Path, page: bytes) -> None:
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        beside.write_bytes(page)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
