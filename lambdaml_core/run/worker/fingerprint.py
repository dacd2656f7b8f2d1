"""What must be equal on two workers for their floating-point sums to be equal bit for bit."""

from __future__ import annotations

import os
import platform
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any


def fingerprint() -> dict[str, Any]:
    """Versions, BLAS, processor features that numpy uses, and pinned settings of this process; JSON.

    ``scipy`` is the installed one, None where there is none.
    """
    import numpy as np

    config = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "scipy": _scipy_version(),
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas_kernels": os.environ.get("OPENBLAS_CORETYPE"),
        "simd": config["SIMD Extensions"].get("found", []),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS"),
    }


def _scipy_version() -> str | None:
    """Without importing it, which takes as long as numpy. Whether it has been imported says nothing: an optimizer may
    do that in its first round, and a process that has done other work before has it."""
    package = find_spec("scipy")
    places = package and package.submodule_search_locations
    found = PathFinder.find_spec("scipy.version", places) if places else None
    if found is None or found.loader is None:
        return None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return str(module.version)
