"""Wheels for the machine that a function runs on, which need not be like this one: fetched and unpacked by pip."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from lambdaml_aws_lambda.package.target import Target
from lambdaml_core.errors import LambdaMLError, NotSupported

_UNREACHABLE = re.compile(
    "connection broken|Failed to establish|Max retries exceeded|name resolution|timed out|SSLError|ProxyError"
)
_MISSING = re.compile(r"No matching distribution found for (\S+)")
_NO_VERSION = "(from versions: none)"


def install(wheels: Mapping[str, str], target: Target, folder: Path) -> None:
    """Unpack these distributions, by name and version, into ``folder``; what they require is not looked at.

    Raises:
        NotSupported: there is no wheel of one of them for the target, or no pip.
        LambdaMLError: the package index cannot be reached.
    """
    if find_spec("pip") is None:
        raise NotSupported(
            "this Python has no pip, which fetches what functions need", hint=f"{sys.executable} -m ensurepip"
        )
    done = _pip(wheels, target, "--target", str(folder), "--no-compile")
    if done.returncode != 0:
        raise _failure(wheels, target, done.stderr)


def _pip(wheels: Mapping[str, str], target: Target, *words: str) -> subprocess.CompletedProcess[str]:
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries=2")
    what = ("--no-deps", "--ignore-installed", "--only-binary=:all:", *_where(target))
    pins = [f"{name}=={version}" for name, version in wheels.items()]
    return subprocess.run(  # noqa: S603  (no shell; names and versions are those of this environment)
        [sys.executable, "-m", "pip", "install", *quiet, *what, *words, *pins],
        capture_output=True,
        text=True,
        check=False,
    )


def _where(target: Target) -> list[str]:
    words = ["--implementation=cp", f"--python-version={target.python}"]
    return words + [f"--platform={tag}" for tag in target.platforms]


def _failure(wheels: Mapping[str, str], target: Target, said: str) -> LambdaMLError:
    """What pip's last words mean; addresses stay out of it, since some hold passwords."""
    missing = _MISSING.search(said)
    if _UNREACHABLE.search(said):
        return LambdaMLError(
            "what functions need cannot be fetched: the package index does not answer",
            hint="look at the network and at pip's settings: pip config list",
        )
    if missing is None:
        lines = [line for line in said.splitlines() if line.strip()] or ["no reason given"]
        last = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        return LambdaMLError(
            f"pip could not unpack what functions need: {re.sub(r'[a-z+]+://[^ ]+', '(an address)', last)}"
        )
    fitting = [other.runtime for other in target.others if _has_wheels(wheels, other)]
    name, _, version = missing[1].partition("==")
    if not fitting and _NO_VERSION in said:
        return LambdaMLError(
            f"the package index has no wheel of {name} that fits {target}, or it does not answer",
            hint=f"look at pip's settings (pip config list), and try: pip download --no-deps {name}=={version}",
        )
    ways = [f"set provider.runtime to {' or '.join(fitting)}"] if fitting else []
    ways.append(f"install a {name} here that has one, such as an older one: pip install '{name}<{version}'")
    return NotSupported(f"there is no wheel of {name} {version} for {target}", hint="; or ".join(ways))


def _has_wheels(wheels: Mapping[str, str], target: Target) -> bool:
    return _pip(wheels, target, "--dry-run").returncode == 0
