"""Secrets are written ``{env:NAME}`` and resolved where they are used; an SDK may quote what it got."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from urllib.parse import quote

_REFERRED = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


def names_in(texts: Iterable[str]) -> list[str]:
    """The names of all ``{env:NAME}`` in these texts, sorted."""
    return sorted({name for text in texts for name in _REFERRED.findall(text)})


def without_secrets(text: str, referring: Iterable[str]) -> str:
    """The text with every secret that ``referring`` texts name taken out again."""
    values = {name: value for name in names_in(referring) if (value := os.environ.get(name))}
    # an SDK may quote it as in a URL; the longest goes first, since one secret may be a part of another
    forms = {form: name for name, v in values.items() for form in (v, quote(v), quote(v, safe=""))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, f"{{env:{forms[form]}}}")
    return text
