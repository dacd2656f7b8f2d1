"""Compiled modules: a function cannot write to its package, and would compile all of numpy at each cold start."""

from __future__ import annotations

import marshal
from importlib.util import MAGIC_NUMBER, source_hash

_UNCHECKED = (0b01).to_bytes(4, "little")  # PEP 552: by hash of the source, which is not looked at again
_NO_REFERENCES = 2  # marshal's format in which bytes depend on values only, not on who else refers to them


def compiled(source: bytes, path: str) -> bytes | None:
    """The ``.pyc`` file of a module, the same each time; None where it does not compile, as some templates do not."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return None
    return MAGIC_NUMBER + _UNCHECKED + source_hash(source) + marshal.dumps(code, _NO_REFERENCES)
