"""Secrets are written ``{env:NAME}`` and resolved where they are used; an SDK may quote what it got."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

_REFERRED = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def without_secrets(text: str, referring: Iterable[str]) -> str:
    """The text with every secret that ``referring`` texts name taken out again."""
    for name in {name for t in referring for name in _REFERRED.findall(t)}:
        if value := os.environ.get(name):
            text = text.replace(value, f"{{env:{name}}}")
    return text
