"""Where a page goes."""

from __future__ import annotations

import sys
from pathlib import Path

from lambdaml_core.cli.output import whole_file
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
            with whole_file(path) as beside:
                beside.write_bytes(page)
    except OSError as e:
        raise UsageError(f"{out} cannot be written: {e.strerror}", hint="give another --out FILE.html") from e
