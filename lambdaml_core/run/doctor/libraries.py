"""``python -m lambdaml_core.run.doctor.libraries NAME...``: import these, as a worker would, and say what came of it.

In a process of its own, since a library that is broken can end the process that imports it. Prints a JSON object for
each, before it is imported (``{"name"}``) and after (with ``version``, ``file`` or ``error``; for numpy also ``blas``
and ``threads``).
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from pathlib import Path
from typing import Any

_COUNTERS = [f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")] + [
    "MKL_Get_Max_Threads"
]


def look_at(name: str) -> dict[str, Any]:
    """Import a library; JSON. The extension modules of scipy are in packages of its own."""
    try:
        module = importlib.import_module(name)
        if name == "scipy":
            importlib.import_module("scipy.sparse")
        seen = {"version": getattr(module, "__version__", None), "file": getattr(module, "__file__", None)}
        return seen | (_blas(module) if name == "numpy" else {})
    except Exception as e:  # noqa: BLE001 - whatever is wrong with it is what is to be said
        return {"error": " ".join(f"{type(e).__name__}: {e}".split())[:300]}


def _blas(numpy: Any) -> dict[str, Any]:
    blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"blas": f"{blas.get('name')} {blas.get('version')}", "threads": _threads()}


def _threads() -> int | None:
    """How many threads the BLAS of this process uses; None where it cannot be asked."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in maps if "openblas" in line or "mkl_rt" in line}
    for path in sorted(paths):
        library = ctypes.CDLL(path)
        for name in _COUNTERS:
            if hasattr(library, name):
                return int(getattr(library, name)())
    return None


def main() -> None:
    for name in sys.argv[1:]:
        print(json.dumps({"name": name}), flush=True)
        print(json.dumps({"name": name} | look_at(name)), flush=True)


if __name__ == "__main__":
    main()
