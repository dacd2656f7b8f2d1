"""What must be equal on two workers for their floating-point sums to be equal bit for bit."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any


def fingerprint() -> dict[str, Any]:
    """Versions, BLAS, processor features that numpy uses, and pinned settings of this process; JSON.

    ``scipy`` is None where nothing has needed it.
    """
    import numpy as np

    config = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    scipy = sys.modules.get("scipy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "scipy": getattr(scipy, "__version__", None),
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas_kernels": os.environ.get("OPENBLAS_CORETYPE"),
        "simd": config["SIMD Extensions"].get("found", []),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS"),
    }
