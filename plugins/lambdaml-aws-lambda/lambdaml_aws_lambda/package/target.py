"""Where a package is to run: the Python, the processors and the C library of a runtime of AWS Lambda."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from lambdaml_core.errors import OptionError

CUSTOM = "provided.al2023"
"""The runtime without a Python of its own."""

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that this process runs on, such as ``3.11``."""

# AWS's table of runtimes: 3.11 stands on Amazon Linux 2, whose C library is glibc 2.26, later ones on Amazon Linux
# 2023 with glibc 2.34.
_GLIBC: Mapping[str, int] = {"python3.11": 26, "python3.12": 34, "python3.13": 34, "python3.14": 34, CUSTOM: 34}
_MACHINES: Mapping[str, str] = {"x86_64": "x86_64", "arm64": "aarch64"}
_FIRST: Mapping[str, int] = {"x86_64": 5, "aarch64": 17}  # the oldest glibc 2.x that wheels are named after
_OLD_NAMES: Mapping[int, str] = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


@dataclass(frozen=True)
class Target:
    """A runtime on an architecture.

    Attributes:
        runtime: such as ``python3.12``.
        architecture: ``x86_64`` or ``arm64``.
    """

    runtime: str
    architecture: str

    def __post_init__(self) -> None:
        if self.runtime not in _GLIBC:
            raise OptionError(
                f"provider.runtime: {self.runtime} is none of AWS Lambda that LambdaML knows",
                hint=f"known: {', '.join(_GLIBC)}",
            )
        if self.architecture not in _MACHINES:
            raise OptionError(
                f"provider.architecture: {self.architecture} is neither x86_64 nor arm64", hint="choose one of them"
            )

    def __str__(self) -> str:
        return f"{self.runtime} on {self.architecture}"

    @property
    def managed(self) -> bool:
        """Whether AWS brings the Python, and the client that fetches invocations for it."""
        return self.runtime != CUSTOM

    @property
    def python(self) -> str:
        """Such as ``3.12``; that of this process where the runtime has none."""
        return self.runtime.removeprefix("python") if self.managed else HERE

    @property
    def platforms(self) -> list[str]:
        """Platform tags whose wheels run there, newest first."""
        machine = _MACHINES[self.architecture]
        tags: list[str] = []
        for minor in range(_GLIBC[self.runtime], _FIRST[machine] - 1, -1):
            tags.append(f"manylinux_2_{minor}_{machine}")
            if minor in _OLD_NAMES:
                tags.append(f"{_OLD_NAMES[minor]}_{machine}")
        return tags

    @property
    def markers(self) -> dict[str, str]:
        """The environment that markers of requirements are held against."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": _MACHINES[self.architecture],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            # of its own AWS runs the newest
            "python_full_version": f"{self.python}.99" if self.managed else platform.python_version(),
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def others(self) -> list[Target]:
        """The managed runtimes beside this one, same architecture."""
        managed = (name for name in _GLIBC if name not in (CUSTOM, self.runtime))
        return [Target(name, self.architecture) for name in managed]
