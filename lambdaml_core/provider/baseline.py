"""The environment that decides in which order a worker adds floating-point numbers, pinned alike for all providers."""

from __future__ import annotations

import platform
from collections.abc import Mapping

DISABLED = "NPY_DISABLE_CPU_FEATURES"
"""Variable: features of processors that numpy is not to use, separated by spaces."""

_ARM = {"aarch64", "arm64"}
_BEYOND_AVX2 = (
    *("AVX512F", "AVX512CD", "AVX512_KNL", "AVX512_KNM", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL"),
    *("AVX512_SPR", "X86_V4"),
)
"""numpy's names, of all versions that the core works with."""


def baseline(architecture: str) -> Mapping[str, str]:
    """The variables; with them, machines of several generations give the same bytes.

    One thread for each BLAS. On x86-64, OpenBLAS's Haswell kernels and numpy without AVX-512; the processors must have
    AVX2 and FMA. On ARM, OpenBLAS's kernels for any 64-bit processor. Strings are hashed alike everywhere.

    Args:
        architecture: ``x86_64``, ``arm64`` or ``aarch64``, of the machines that workers run on; of any other, what
            depends on processors is left out.
    """
    env = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env["PYTHONHASHSEED"] = "0"
    if architecture == "x86_64":
        env |= {"OPENBLAS_CORETYPE": "Haswell", DISABLED: " ".join(_beyond_avx2())}
    elif architecture in _ARM:
        env["OPENBLAS_CORETYPE"] = "ARMV8"
    return env


def _beyond_avx2() -> list[str]:
    """What the installed numpy may use above AVX2, be it that this machine has it or not: numpy warns about names that
    it does not know. Where it is one for other processors it knows none of them, so all are named."""
    import numpy as np

    if platform.machine() != "x86_64":
        return list(_BEYOND_AVX2)
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    known = {*simd.get("found", ()), *simd.get("not found", ())}
    return [name for name in _BEYOND_AVX2 if name in known]
