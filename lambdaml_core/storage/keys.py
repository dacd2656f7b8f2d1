"""What a key may look like, on every storage."""

from __future__ import annotations

import re

from lambdaml_core.errors import StorageError

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def check_key(key: str, max_bytes: int = 250) -> str:
    """Return the key if it is legal: words of ``[A-Za-z0-9._-]`` joined by slashes, none starting with a dot.

    So a key is its own path, URL and cache key on every storage, and names from outside cannot climb out of a prefix.

    Raises:
        StorageError: it is not legal, or longer than ``max_bytes``.
    """
    if not _KEY.fullmatch(key):
        raise StorageError(f"{key[:40]!r} cannot be a key", hint="keys are words of [A-Za-z0-9._-] joined by slashes")
    if len(key) > max_bytes:
        raise StorageError(f"the key {key[:40]}... is longer than {max_bytes} bytes")
    return key
